"""A raw HTTP/1.1 client: a request is bytes made beforehand, and an answer is not interpreted.

Any client library costs more than the differences that are measured here.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

HOST = "127.0.0.1"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class Answer(NamedTuple):
    """A status and a whole body."""

    status: int
    body: bytes


class Target(NamedTuple):
    """Where a request goes, and all of its bytes."""

    port: int
    request: bytes


class Refused(Exception):
    """A service answered with another status than 200."""


def get(port: int, path: str) -> Target:
    """A GET."""
    return Target(port, _head("GET", path, {}))


def post(port: int, path: str, wish: Mapping[str, Any], *, accept: str) -> Target:
    """A POST of JSON."""
    body = body_of_json(wish)
    headers = {
        "accept": accept,
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    return Target(port, _head("POST", path, headers) + body)


def body_of_json(wish: Mapping[str, Any]) -> bytes:
    """As OpenAI's client writes it, without a space."""
    return json.dumps(wish, separators=(",", ":")).encode()


class Connection:
    """One keep-alive connection; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """A connection to a service of this machine."""
        return cls(*await asyncio.open_connection(HOST, port, limit=2**20))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, request: bytes) -> Answer:
        """The answer, whatever its status."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is None:
            raise ValueError(f"an answer without content-length: {head!r}")
        return Answer(int(head[9:12]), await self._reader.readexactly(int(length[1])))


async def ask(target: Target) -> Answer:
    """The answer over a connection of its own, whatever its status."""
    async with await Connection.open(target.port) as connection:
        return await connection.ask(target.request)


def body_of(answer: Answer) -> bytes:
    """The body of a success. Raises Refused."""
    if answer.status != 200:
        raise Refused(f"status {answer.status}: {answer.body[:500]!r}")
    return answer.body


def _head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"host: {HOST}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
