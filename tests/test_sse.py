"""Server-sent events on the wire: the pings, and clients that go away."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.types import ASGIApp, Message

from deployments.ingress.sse import PING, EventStream, event, with_pings
from deployments.requests import GenerationRequest, ImageResult, Progress
from tests.bad_inputs import GENERATIONS
from tests.ingress_backend import OneColour, app_over

STREAM = {"prompt": "a red house", "stream": True}


class Waiting(OneColour):
    """Tells of one call and then of nothing more."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked = asyncio.Event()

    async def watch(
        self, request: GenerationRequest, *, previews: int
    ) -> AsyncGenerator[Progress | ImageResult]:
        told = super().watch(request, previews=previews)
        try:
            yield await anext(told)
            self.blocked.set()
            await asyncio.Event().wait()
        finally:
            await told.aclose()


async def posted(
    app: ASGIApp, body: bytes, *, leave: asyncio.Event, send: Any, version: str = "2.0"
) -> None:
    """A stream whose client leaves when the event is set."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await leave.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "asgi": {"spec_version": version},
        "method": "POST",
        "path": GENERATIONS,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    await app(scope, receive, send)


@pytest.mark.parametrize("version", ["2.0", "2.4"])
def test_a_client_that_leaves_frees_its_rows_though_nothing_is_told(version: str) -> None:
    async def run() -> int:
        backend, sent = Waiting(), []

        async def send(message: Message) -> None:
            sent.append(message["type"])

        await posted(
            app_over(backend),
            json.dumps(STREAM).encode(),
            leave=backend.blocked,
            send=send,
            version=version,
        )
        assert sent == ["http.response.start"]
        return backend.closed

    assert asyncio.run(run()) == 1


@pytest.mark.parametrize("refused", ["http.response.start", "http.response.body"])
def test_a_client_that_is_gone_when_an_event_is_sent_frees_its_rows(refused: str) -> None:
    async def run() -> int:
        backend = OneColour()

        async def send(message: Message) -> None:
            if message["type"] == refused:
                raise OSError("the connection is closed")

        body = json.dumps({**STREAM, "partial_images": 3}).encode()
        await posted(app_over(backend), body, leave=asyncio.Event(), send=send)
        return backend.closed

    assert asyncio.run(run()) == 1


def test_a_request_that_is_cancelled_frees_its_rows() -> None:
    async def run() -> int:
        backend = Waiting()

        async def send(message: Message) -> None:
            pass

        request = asyncio.create_task(
            posted(app_over(backend), json.dumps(STREAM).encode(), leave=asyncio.Event(), send=send)
        )
        await backend.blocked.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        return backend.closed

    assert asyncio.run(run()) == 1


def test_silence_is_filled_with_pings() -> None:
    async def run() -> list[bytes]:
        pinged = asyncio.Event()
        sent: list[bytes] = []

        async def events() -> AsyncGenerator[bytes]:
            yield event("first", b"{}")
            await pinged.wait()
            yield event("second", b"{}")

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError("nobody leaves")

        async def send(message: Message) -> None:
            if message.get("body") == PING:
                pinged.set()
            else:
                sent.append(message.get("body", b""))

        await EventStream(events(), ping_every_s=0.001)({"type": "http"}, receive, send)
        return sent

    assert asyncio.run(run()) == [
        b"",
        b"event: first\ndata: {}\n\n",
        b"event: second\ndata: {}\n\n",
        b"",
    ]


def test_events_without_silence_have_no_pings() -> None:
    async def run() -> list[bytes]:
        async def events() -> AsyncGenerator[bytes]:
            for i in range(100):
                await asyncio.sleep(0)
                yield b"%d" % i

        return [each async for each in with_pings(events(), every_s=60)]

    assert asyncio.run(run()) == [b"%d" % i for i in range(100)]
