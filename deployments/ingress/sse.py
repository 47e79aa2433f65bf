"""Server-sent events on the wire: writes them, and pings while there is nothing to say.

Knows no wire format: what an event holds is its caller's.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from deployments.ingress.failures import ErrorDetail, describe

PING_EVERY_S = 15.0
"""Silence after which a ping is sent: proxies cut a connection that is silent for 30 or 60 s."""
PING = b": ping\n\n"
"""A comment, which every reader of events skips."""


class StreamError(msgspec.Struct, frozen=True, kw_only=True):
    """The data of the event `error`, in the shape that OpenAI's clients raise."""

    type: str = "error"
    error: ErrorDetail


def event(name: str, data: bytes) -> bytes:
    """One event; `data` is a line of JSON."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


def error_event(error: Exception) -> bytes:
    """The last event of a stream that broke."""
    return event("error", msgspec.json.encode(StreamError(error=describe(error)[1])))


class EventStream(Response):
    """An answer of events, each sent as it comes.

    The generator is closed in the end, and at once when the client goes away. Whatever it raises
    cuts the connection, so it had better tell of its errors in an event of its own.
    """

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncGenerator[bytes], *, ping_every_s: float = PING_EVERY_S
    ) -> None:
        # Not Response's own, which would send the length of a body.
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._events = events
        self._ping_every_s = ping_every_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events until they end or the client leaves.

        Not Starlette's StreamingResponse: where a server speaks ASGI 2.4, that one notices only
        at the next event that the client has gone.
        """
        async with aclosing(self._events):
            writing = asyncio.create_task(self._write(send))
            leaving = asyncio.create_task(_client_left(receive))
            try:
                await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
                if not writing.done():
                    raise ClientDisconnect
                await writing
            finally:
                for task in (writing, leaving):
                    task.cancel()
                await asyncio.gather(writing, leaving, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        await _sent(
            send,
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            },
        )
        async with aclosing(with_pings(self._events, every_s=self._ping_every_s)) as chunks:
            async for chunk in chunks:
                await _sent(send, {"type": "http.response.body", "body": chunk, "more_body": True})
        await _sent(send, {"type": "http.response.body", "body": b"", "more_body": False})


async def with_pings(events: AsyncGenerator[bytes], *, every_s: float) -> AsyncGenerator[bytes]:
    """The events, and a ping whenever none came for `every_s` seconds."""
    coming = asyncio.create_task(_next(events))
    try:
        while True:
            done, _ = await asyncio.wait((coming,), timeout=every_s)
            if not done:
                yield PING
                continue
            following = await coming
            if following is None:
                return
            yield following
            coming = asyncio.create_task(_next(events))
    finally:
        # A generator that still runs cannot be closed.
        coming.cancel()
        await asyncio.wait((coming,))


async def _next(events: AsyncGenerator[bytes]) -> bytes | None:
    return await anext(events, None)


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _sent(send: Send, message: Message) -> None:
    try:
        await send(message)
    except OSError as error:
        raise ClientDisconnect from error
