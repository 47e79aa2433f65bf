"""Whatever is sent, the answer is a 4xx of the right shape that names the field and the cure."""

import asyncio
import gc
import logging
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from deployments.ingress.documents.operations import OPERATIONS
from tests.bad_inputs import BAD_INPUTS, EDITS, GENERATIONS, JSON, BadInput, form, part
from tests.bad_inputs.automatic1111 import TXT2IMG
from tests.bad_inputs.case import MULTIPART
from tests.ingress_backend import CARD, OneColour, app_over, ask, png

READING = [
    pytest.param(each.path.replace("{id}", CARD.id), kind, id=f"{each.path} {kind}")
    for each in OPERATIONS
    for body in each.bodies
    for kind in body.media_types
]
"""Every route that reads a body, with every type of body that it reads."""


@pytest.fixture(scope="module")
def app() -> ASGIApp:
    return app_over(OneColour())


def test_the_table_is_large_and_covers_every_route_that_reads() -> None:
    assert len(BAD_INPUTS) >= 500
    assert len({(case.path, case.name) for case in BAD_INPUTS}) == len(BAD_INPUTS)
    paths = {case.url(CARD.id) for case in BAD_INPUTS if case.status < 404 or case.status > 405}
    silent = {"interrupt", "skip", "refresh-checkpoints", "refresh-loras"}
    posts = {each.path.replace("{id}", CARD.id) for each in OPERATIONS if each.method == "POST"}
    assert posts - {f"/sdapi/v1/{name}" for name in silent} <= paths


@pytest.mark.parametrize("case", BAD_INPUTS, ids=lambda case: f"{case.path[:40]}: {case.name}")
def test_is_refused(app: ASGIApp, case: BadInput) -> None:
    case.check(sent(app, case))


def test_nothing_but_damaged_pixels_reaches_the_backend() -> None:
    backend = OneColour()
    app = app_over(backend)
    for case in BAD_INPUTS:
        sent(app, case)
    assert len(backend.asked) == sum("cut in its pixels" in case.name for case in BAD_INPUTS) == 1


def test_a_good_request_is_answered_after_them_all(app: ASGIApp) -> None:
    assert ask(app, "POST", GENERATIONS, json={"prompt": "a red house"}).status_code == 200


@pytest.fixture
def _no_log() -> Iterator[None]:
    """pytest keeps what is logged, which is memory too."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("_no_log")
def test_memory_stays_flat() -> None:
    cases = [case for case in BAD_INPUTS if len(case.content) < 1_000_000]
    rounds = 4
    assert rounds * len(cases) >= 2_000

    async def kept(app: ASGIApp) -> int:
        """Bytes of Python's that are there after all cases."""
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://ingress") as client:
            for case in cases:
                await client.request(
                    case.method, case.url(CARD.id), content=case.content, headers=case.headers
                )
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    async def measured() -> tuple[int, int]:
        app = app_over(OneColour())
        await kept(app)  # caches fill
        before = await kept(app)
        for _ in range(rounds - 1):
            await kept(app)
        return before, await kept(app)

    tracemalloc.start()
    try:
        before, after = asyncio.run(measured())
    finally:
        tracemalloc.stop()
    grown = after - before
    assert grown < 20 * rounds * len(cases), f"{grown / rounds / len(cases):.0f} bytes a request"


@pytest.mark.parametrize(("path", "kind"), READING)
def test_reading_stops_at_the_limit(path: str, kind: str) -> None:
    num_read = 0

    async def receive() -> dict[str, Any]:
        nonlocal num_read
        num_read += 1
        return {"type": "http.request", "body": b"x" * 100_000, "more_body": True}

    kind = MULTIPART if kind == "multipart/form-data" else kind
    status, body = asyncio.run(call(app_over(OneColour(), max_body_mb=1), path, kind, receive))
    assert status == 413
    assert b"larger than the 1 MB read here" in body
    assert num_read == 11


@pytest.mark.parametrize(("path", "kind"), READING)
def test_a_body_that_stops_arriving_is_waited_for_so_long(path: str, kind: str) -> None:
    arrived = [{"type": "http.request", "body": b"x" * 1_000, "more_body": True}] * 10

    async def receive() -> dict[str, Any]:
        if not arrived:
            await asyncio.Event().wait()
        return arrived.pop()

    kind = MULTIPART if kind == "multipart/form-data" else kind
    app = app_over(OneColour(), body_timeout_s=0.01)
    status, body = asyncio.run(call(app, path, kind, receive))
    assert status == 408
    assert b"had not arrived after 0.01 s" in body


def test_an_announced_large_body_is_not_read() -> None:
    async def body() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    headers = {"content-type": JSON, "content-length": "2000000"}
    answer = ask(
        app_over(OneColour(), max_body_mb=1), "POST", GENERATIONS, content=body(), headers=headers
    )
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


def test_an_image_within_the_byte_limit_may_still_have_too_many_pixels() -> None:
    content = form(part("image", png(400, 300), filename="a"), part("prompt", "a"))
    app = app_over(OneColour(), max_megapixels=0.1)
    answer = ask(app, "POST", EDITS, content=content, headers={"content-type": MULTIPART})
    assert answer.json()["error"]["code"] == "image_too_large"


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (GENERATIONS, {"POST"}),
        (TXT2IMG, {"POST"}),
        ("/v1/models", {"GET", "HEAD"}),
        ("/v1/jobs/seven", {"DELETE", "GET", "HEAD"}),
        ("/sdapi/v1/options", {"GET", "HEAD", "POST"}),
    ],
)
def test_another_method_is_answered_with_those_of_the_path(
    app: ASGIApp, path: str, methods: set[str]
) -> None:
    answer = ask(app, "PUT", path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == methods


def sent(app: ASGIApp, case: BadInput) -> httpx.Response:
    return ask(app, case.method, case.url(CARD.id), content=case.content, headers=case.headers)


async def call(app: ASGIApp, path: str, content_type: str, receive: Any) -> tuple[int, bytes]:
    """A request whose body is whatever `receive` says, without a client in between."""
    answered: list[Any] = []

    async def send(message: Any) -> None:
        answered.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"content-type", content_type.encode())],
    }
    await app(scope, receive, send)
    return answered[0]["status"], answered[1]["body"]
