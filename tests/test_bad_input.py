"""Whatever is sent, the answer is a 4xx in OpenAI's shape that names the field and the cure."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from tests.bad_inputs import BAD_INPUTS, EDITS, GENERATIONS, JSON, BadInput, form, part
from tests.ingress_backend import OneColour, app_over, ask, png


@pytest.fixture(scope="module")
def backend() -> OneColour:
    return OneColour()


@pytest.fixture(scope="module")
def app(backend: OneColour) -> ASGIApp:
    return app_over(backend)


def test_the_table_is_large_and_covers_both_routes() -> None:
    paths = [case.path for case in BAD_INPUTS]
    assert paths.count(GENERATIONS) >= 60
    assert paths.count(EDITS) >= 40
    assert len({(case.path, case.name) for case in BAD_INPUTS}) == len(BAD_INPUTS)


@pytest.mark.parametrize("case", BAD_INPUTS, ids=lambda case: f"{case.path[11:]}: {case.name}")
def test_is_refused(app: ASGIApp, case: BadInput) -> None:
    answer = ask(app, "POST", case.path, content=case.content, headers=case.headers)
    error = error_of(answer)
    assert (answer.status_code, error["param"], error["code"]) == (
        case.status,
        case.param,
        case.code,
    ), error
    assert error["type"] == "invalid_request_error"
    assert case.says in error["message"]
    assert len(error["message"]) < 1500
    assert answer.headers["x-request-id"]


def test_nothing_but_damaged_pixels_reaches_the_backend() -> None:
    backend = OneColour()
    app = app_over(backend)
    for case in BAD_INPUTS:
        ask(app, "POST", case.path, content=case.content, headers=case.headers)
    assert len(backend.asked) == sum("cut in its pixels" in case.name for case in BAD_INPUTS) == 1


def test_a_good_request_is_answered_after_them_all(app: ASGIApp) -> None:
    assert ask(app, "POST", GENERATIONS, json={"prompt": "a red house"}).status_code == 200


def test_an_announced_large_body_is_not_read() -> None:
    async def body() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    headers = {"content-type": JSON, "content-length": "2000000"}
    answer = ask(
        app_over(OneColour(), max_body_mb=1), "POST", GENERATIONS, content=body(), headers=headers
    )
    assert_too_large(answer)


@pytest.mark.parametrize("path", [GENERATIONS, EDITS])
def test_reading_stops_at_the_limit(path: str) -> None:
    num_read = 0

    async def receive() -> dict[str, Any]:
        nonlocal num_read
        num_read += 1
        return {"type": "http.request", "body": b"x" * 100_000, "more_body": True}

    kind = JSON if path == GENERATIONS else "multipart/form-data; boundary=b"
    status, body = asyncio.run(call(app_over(OneColour(), max_body_mb=1), path, kind, receive))
    assert status == 413
    assert b'"request_too_large"' in body
    assert num_read == 11


def test_an_image_within_the_byte_limit_may_still_have_too_many_pixels() -> None:
    content = form(part("image", png(400, 300), filename="a"), part("prompt", "a"))
    answer = ask(
        app_over(OneColour(), max_megapixels=0.1),
        "POST",
        EDITS,
        content=content,
        headers={"content-type": "multipart/form-data; boundary=a-boundary-nobody-else-uses"},
    )
    assert error_of(answer)["code"] == "image_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/image", 404, "not_found"),
        ("POST", "/v1/images/generations/", 404, "not_found"),
        ("GET", "/v1/images/variations", 405, "method_not_allowed"),
        ("POST", "/v1/%0Ainjected", 404, "not_found"),
        ("GET", GENERATIONS, 405, "method_not_allowed"),
        ("DELETE", EDITS, 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("PUT", "/healthz", 405, "method_not_allowed"),
    ],
)
def test_unknown_paths_and_methods(
    app: ASGIApp, method: str, path: str, status: int, code: str
) -> None:
    answer = ask(app, method, path)
    assert answer.status_code == status
    assert error_of(answer)["code"] == code
    assert ("allow" in answer.headers) == (status == 405)


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer that has OpenAI's shape."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    return error


def assert_too_large(answer: httpx.Response) -> None:
    assert answer.status_code == 413
    assert error_of(answer)["code"] == "request_too_large"


async def call(app: ASGIApp, path: str, content_type: str, receive: Any) -> tuple[int, bytes]:
    """A request whose body is whatever `receive` says, without a client in between."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"content-type", content_type.encode())],
    }
    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]
