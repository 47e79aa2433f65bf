"""Streams of pictures: their events, and what goes wrong before and in mid-stream."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent
from PIL import Image

from deployments.errors import EngineFailed, GenerationFailed, Requeue
from deployments.imaging.codecs import encode
from deployments.ingress.previews import enlarged
from deployments.requests import GenerationRequest, ImageResult, Progress
from tests.bad_inputs import EDITS, GENERATIONS
from tests.ingress_backend import InProcess, OneColour, app_over, ask, colour_of, png

STREAM = {"prompt": "a red house", "stream": True, "seed": 7}
PICTURE_KEYS = {
    "type",
    "b64_json",
    "created_at",
    "size",
    "quality",
    "background",
    "output_format",
}


class Breaking(OneColour):
    """Tells of a few calls, then fails."""

    def __init__(self, error: Exception, *, after: int = 6) -> None:
        super().__init__()
        self.error, self.after = error, after

    async def watch(
        self, request: GenerationRequest, *, previews: int
    ) -> AsyncGenerator[Progress | ImageResult]:
        left = self.after
        async for told in super().watch(request, previews=previews):
            if left == 0:
                raise self.error
            left -= 1
            yield told


def events_of(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream that is nothing but events."""
    assert body.endswith(b"\n\n")
    found = []
    for block in body.decode()[:-2].split("\n\n"):
        name, data = block.split("\n")
        assert name.startswith("event: ")
        assert data.startswith("data: ")
        found.append((name[7:], json.loads(data[6:])))
    return found


def streamed(backend: OneColour, **sent: Any) -> list[tuple[str, dict[str, Any]]]:
    answer = ask(app_over(backend), "POST", GENERATIONS, json={**STREAM, **sent})
    assert answer.status_code == 200, answer.text
    return events_of(answer.content)


def opened(b64: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(b64, validate=True)))


def test_a_stream_is_openais_to_the_letter() -> None:
    answer = ask(
        app_over(OneColour()),
        "POST",
        GENERATIONS,
        json={**STREAM, "partial_images": 2, "quality": "low", "output_format": "webp"},
        headers={"x-request-id": "mine"},
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-request-id"] == "mine"
    assert "content-length" not in answer.headers

    events = events_of(answer.content)
    partial, completed = "image_generation.partial_image", "image_generation.completed"
    assert [name for name, _ in events] == [partial, partial, completed]
    assert all(data["type"] == name for name, data in events)
    assert [data.get("partial_image_index") for _, data in events] == [0, 1, None]
    for _, data in events:
        assert set(data) >= PICTURE_KEYS
        assert (data["size"], data["quality"]) == ("64x64", "low")
        assert (data["background"], data["output_format"]) == ("opaque", "webp")
        picture = opened(data["b64_json"])
        assert (picture.format, picture.size) == ("WEBP", (64, 64))
        assert np.abs(np.array(picture)[9, 9] - np.array(colour_of(7), int)).max() <= 6
    assert set(events[0][1]) == PICTURE_KEYS | {"partial_image_index"}
    assert set(events[-1][1]) == PICTURE_KEYS | {"usage", "seed"}
    assert events[-1][1]["seed"] == 7
    assert events[-1][1]["usage"]["total_tokens"] == 3 + 16


@pytest.mark.parametrize(
    ("sent", "partials"),
    [
        ({}, 0),
        ({"partial_images": 0}, 0),
        ({"partial_images": 3}, 3),
        ({"partial_images": 3, "num_inference_steps": 2}, 1),
        ({"partial_images": 1, "num_inference_steps": 1}, 0),
    ],
)
def test_as_many_partials_come_as_were_asked_for(sent: dict[str, Any], partials: int) -> None:
    kinds = [name.rpartition(".")[2] for name, _ in streamed(OneColour(), **sent)]
    assert kinds == ["partial_image"] * partials + ["completed"]


def test_each_of_several_pictures_counts_its_own_partials() -> None:
    events = streamed(OneColour(), n=2, partial_images=2)
    assert [data.get("partial_image_index") for _, data in events] == [0, 1, None] * 2
    assert [data["seed"] for _, data in events if "seed" in data] == [7, 8]


def test_an_edit_has_events_of_its_own() -> None:
    answer = ask(
        app_over(OneColour()),
        "POST",
        EDITS,
        files={"image": png(64, 64)},
        data={"prompt": "a", "stream": "true", "partial_images": "1"},
    )
    names = [name for name, _ in events_of(answer.content)]
    assert names == ["image_edit.partial_image", "image_edit.completed"]


def test_the_picture_is_the_one_that_comes_without_a_stream() -> None:
    plain = ask(app_over(OneColour()), "POST", GENERATIONS, json={**STREAM, "stream": False})
    (_, completed) = streamed(OneColour())[-1]
    assert completed["b64_json"] == plain.json()["data"][0]["b64_json"]


def test_warnings_come_with_the_picture() -> None:
    (_, completed) = streamed(OneColour(), style="vivid", partial_images=1)[-1]
    assert completed["warnings"] == ["style was ignored: say it in the prompt"]


def test_accepting_a_picture_is_no_stream() -> None:
    answer = ask(
        app_over(OneColour()), "POST", GENERATIONS, json=STREAM, headers={"accept": "image/png"}
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stream")


def test_a_stream_holds_pictures_where_addresses_are_the_default() -> None:
    app = app_over(OneColour(), default_response_format="url")
    (_, completed) = events_of(ask(app, "POST", GENERATIONS, json=STREAM).content)[-1]
    assert opened(completed["b64_json"]).size == (64, 64)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Requeue("full", pending_s=3.0), 429),
        (GenerationFailed("latents are not numbers"), 500),
        (RuntimeError("a bug"), 500),
    ],
)
def test_an_error_before_the_first_event_is_an_ordinary_answer(
    error: Exception, status: int
) -> None:
    for backend in (OneColour(failure=error), Breaking(error, after=0)):
        answer = ask(app_over(backend), "POST", GENERATIONS, json=STREAM)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_an_error_in_mid_stream_is_the_last_event() -> None:
    events = streamed(Breaking(EngineFailed("the device fell off")), partial_images=3)
    assert [name for name, _ in events] == ["image_generation.partial_image", "error"]
    assert events[-1][1] == {
        "type": "error",
        "error": {
            "message": "the device fell off",
            "type": "server_error",
            "param": None,
            "code": "engine_failed",
        },
    }


def test_what_nobody_expected_ends_a_stream_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = app_over(Breaking(RuntimeError("the password is hunter2")))
    answer = ask(app, "POST", GENERATIONS, json=STREAM, headers={"x-request-id": "mine"})
    ((name, data),) = events_of(answer.content)
    assert (name, data["error"]["code"]) == ("error", "internal_error")
    assert b"hunter2" not in answer.content
    (record,) = [each for each in caplog.records if each.exc_info]
    assert "mine" in record.getMessage()


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_a_preview_becomes_the_size_and_format_of_its_picture(output_format: Any) -> None:
    backend = OneColour()
    sent = {**STREAM, "size": "96x64", "output_format": output_format, "output_compression": 90}
    ask(app_over(backend), "POST", GENERATIONS, json=sent)
    (row,) = backend.asked[0].rows
    small = np.zeros((8, 12, 3), np.uint8)
    small[:, 6:] = (200, 40, 10)
    picture = Image.open(io.BytesIO(enlarged(encode(small, "jpeg", 95), row)))
    assert (picture.size, picture.format) == ((96, 64), output_format.upper())
    left, right = (np.array(picture, int)[32, column] for column in (8, 88))
    assert np.abs(left).max() <= 12
    assert np.abs(right - (200, 40, 10)).max() <= 12


class TestOpenAIClient:
    """The real client, unchanged, over the app in-process."""

    def test_a_stream_of_partials(self) -> None:
        stream = client(OneColour()).images.generate(
            prompt="a red house", stream=True, partial_images=2, extra_body={"seed": 7}
        )
        first, second, done = list(stream)
        assert isinstance(first, ImageGenPartialImageEvent)
        assert isinstance(second, ImageGenPartialImageEvent)
        assert isinstance(done, ImageGenCompletedEvent)
        assert (first.partial_image_index, second.partial_image_index) == (0, 1)
        assert (done.usage.output_tokens, done.size) == (16, "64x64")
        assert opened(done.b64_json).getpixel((5, 5)) == colour_of(7)

    def test_an_edit(self) -> None:
        stream = client(OneColour()).images.edit(
            image=png(64, 64), prompt="a", stream=True, partial_images=1
        )
        assert [each.type for each in stream] == [
            "image_edit.partial_image",
            "image_edit.completed",
        ]

    def test_an_error_in_mid_stream(self) -> None:
        over = client(Breaking(EngineFailed("the device fell off")))
        stream = over.images.generate(prompt="a", stream=True)
        with pytest.raises(openai.APIError, match="the device fell off"):
            list(stream)

    def test_an_error_before_it(self) -> None:
        with pytest.raises(openai.RateLimitError):
            client(OneColour(failure=Requeue("full"))).images.generate(prompt="a", stream=True)

    def test_the_asynchronous_client(self) -> None:
        async def run() -> list[str]:
            transport = httpx2.ASGITransport(app=app_over(OneColour()))
            over = openai.AsyncOpenAI(
                api_key="none",
                base_url="http://ingress/v1",
                http_client=httpx2.AsyncClient(transport=transport),
            )
            stream: AsyncIterator[Any] = await over.images.generate(
                prompt="a", stream=True, partial_images=1
            )
            return [each.type async for each in stream]

        assert asyncio.run(run()) == [
            "image_generation.partial_image",
            "image_generation.completed",
        ]


def client(backend: OneColour) -> openai.OpenAI:
    return openai.OpenAI(
        api_key="none",
        base_url="http://ingress/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=InProcess(app_over(backend))),
    )
