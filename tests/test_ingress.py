"""The HTTP side over a backend without a GPU: shapes, defaults, errors, ids, and real clients."""

import asyncio
import base64
import io
import logging
import subprocess
import sys
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from PIL import Image
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError, ReplicaUnavailableError

from deployments.dispatch import translated
from deployments.errors import (
    GenerationFailed,
    InvalidImage,
    ModelNotReady,
    Requeue,
    StepwiseError,
    UnsupportedScheduler,
)
from deployments.ingress.settings import IngressSettings
from tests.bad_inputs import EDITS, GENERATIONS
from tests.ingress_backend import CARD, InProcess, OneColour, app_over, ask, colour_of, png

PROMPT = {"prompt": "a red house on snowy hills"}


def test_a_generation_is_answered_with_its_picture_and_seed() -> None:
    backend = OneColour()
    answer = ask(app_over(backend), "POST", GENERATIONS, json={**PROMPT, "seed": 7, "n": 2})
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {
        "created",
        "data",
        "output_format",
        "size",
        "quality",
        "background",
        "usage",
    }
    assert body["created"] > 1_700_000_000
    assert (body["output_format"], body["size"], body["quality"]) == ("png", "64x64", "medium")
    assert [each["seed"] for each in body["data"]] == [7, 8]
    for each in body["data"]:
        assert set(each) == {"b64_json", "seed"}
        picture = opened(each["b64_json"])
        assert picture.size == (64, 64)
        assert picture.getpixel((3, 3)) == colour_of(each["seed"])


def test_every_field_reaches_the_rows() -> None:
    backend = OneColour()
    sent = {
        **PROMPT,
        "model": "tiny",
        "n": 1,
        "size": "96x64",
        "output_format": "webp",
        "output_compression": 80,
        "background": "opaque",
        "negative_prompt": "fog",
        "num_inference_steps": 9,
        "guidance_scale": 3,
        "guidance_rescale": 0.7,
        "guidance_start": 0,
        "guidance_end": 0.8,
        "scheduler": "ddim_scheduler",
        "seed": 2**63 - 1,
        "priority": "high",
        "response_format": "b64_json",
        "stream": False,
        "partial_images": 0,
    }
    answer = ask(app_over(backend), "POST", GENERATIONS, json=sent)
    assert opened(answer.json()["data"][0]["b64_json"]).format == "WEBP"
    assert answer.json()["size"] == "96x64"
    (row,) = backend.asked[0].rows
    assert (row.model, row.prompt, row.negative_prompt) == ("tiny", sent["prompt"], "fog")
    assert (row.width, row.height, row.num_inference_steps) == (96, 64, 9)
    assert (row.guidance_scale, row.scheduler, row.seed) == (3.0, "DDIMScheduler", 2**63 - 1)
    assert (row.guidance_rescale, row.guidance_start, row.guidance_end) == (0.7, 0.0, 0.8)
    assert (row.strength, row.output_format, row.output_compression) == (None, "webp", 80)
    assert row.priority == "high"


def test_null_counts_as_absent() -> None:
    backend = OneColour()
    nulls = dict.fromkeys(("n", "size", "quality", "seed", "model", "style", "user", "stream"))
    nulls |= dict.fromkeys(("guidance_rescale", "guidance_start", "guidance_end", "priority"))
    assert ask(app_over(backend), "POST", GENERATIONS, json={**PROMPT, **nulls}).status_code == 200
    (row,) = backend.asked[0].rows
    assert (row.width, row.num_inference_steps, row.model) == (64, CARD.default_steps, "tiny")
    assert (row.guidance_rescale, row.guidance_end, row.priority) == (0.0, 1.0, "normal")


@pytest.mark.parametrize(
    ("sent", "steps", "quality"),
    [
        ({}, 20, "medium"),
        ({"quality": "auto"}, 20, "medium"),
        ({"quality": "low"}, 10, "low"),
        ({"quality": "standard"}, 20, "medium"),
        ({"quality": "hd"}, 30, "high"),
        ({"quality": "xhigh"}, 40, "xhigh"),
        ({"quality": "max"}, 60, "max"),
        ({"quality": "max", "num_inference_steps": 5}, 5, "max"),
    ],
)
def test_quality_is_a_preset_of_steps(sent: dict[str, Any], steps: int, quality: str) -> None:
    backend = OneColour()
    body = ask(app_over(backend), "POST", GENERATIONS, json={**PROMPT, **sent}).json()
    assert backend.asked[0].rows[0].num_inference_steps == steps
    assert body["quality"] == quality


def test_what_changed_nothing_is_said() -> None:
    sent = {
        **PROMPT,
        "style": "vivid",
        "quality": "low",
        "num_inference_steps": 4,
        "output_compression": 50,
        "moderation": "low",
        "user": "u",
        "safety_identifier": "s",
    }
    warnings = ask(app_over(OneColour()), "POST", GENERATIONS, json=sent).json()["warnings"]
    assert [each.split()[0] for each in warnings] == ["quality", "output_compression", "style"]


def test_an_edit_hands_over_the_files_and_what_they_must_become() -> None:
    backend = OneColour()
    image, mask = png(96, 48), png(96, 48, "RGBA")
    answer = ask(
        app_over(backend),
        "POST",
        EDITS,
        # A part's file name and type are not trusted: the content decides.
        files={"image": ("upload", image, "text/html"), "mask": ("m.gif", mask, "image/gif")},
        data={
            "prompt": "a blue house",
            "n": "2",
            "seed": "5",
            "guidance_scale": "2.5",
            "guidance_rescale": "0.5",
            "guidance_end": "0.9",
            "priority": "low",
        },
    )
    assert answer.status_code == 200, answer.text
    (request,) = backend.asked
    assert (request.image, request.mask) == (image, mask)
    assert request.prepare is not None
    assert (request.prepare.width, request.prepare.height) == (88, 48)
    assert (request.prepare.latent_factor, request.prepare.mask_polarity) == (8, "transparent")
    assert [(row.seed, row.strength, row.guidance_scale) for row in request.rows] == [
        (5, 1.0, 2.5),
        (6, 1.0, 2.5),
    ]
    row = request.rows[0]
    assert (row.guidance_rescale, row.guidance_end, row.priority) == (0.5, 0.9, "low")
    assert answer.json()["size"] == "88x48"


def test_an_edit_takes_one_file_as_a_list() -> None:
    backend = OneColour()
    answer = ask(
        app_over(backend), "POST", EDITS, files={"image[]": ("a", png())}, data={**PROMPT, "n": "1"}
    )
    assert answer.status_code == 200, answer.text
    assert backend.asked[0].rows[0].strength == CARD.default_strength


def test_models_and_health() -> None:
    warm, cold = app_over(OneColour()), app_over(OneColour(warm=False))
    entry = {"id": "tiny", "object": "model", "created": CARD.created, "owned_by": "stepwise"}
    assert ask(warm, "GET", "/v1/models").json() == {"object": "list", "data": [entry]}
    assert ask(cold, "GET", "/v1/models").json()["data"] == []
    assert ask(warm, "GET", "/healthz").json() == {"status": "ok"}
    assert ask(cold, "GET", "/healthz").status_code == 200
    assert ask(warm, "GET", "/readyz").json() == {"status": "ready", "models": ["tiny"]}
    answer = ask(cold, "GET", "/readyz")
    assert answer.status_code == 503
    assert "tiny, loading" in answer.json()["error"]["message"]


def test_a_model_that_still_loads_is_not_unknown() -> None:
    answer = ask(app_over(OneColour()), "POST", GENERATIONS, json={**PROMPT, "model": "loading"})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "server_is_overloaded"
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("failure", "status", "kind", "code", "headers"),
    [
        (
            InvalidImage("mask is of another size", param="mask"),
            400,
            "invalid_request_error",
            "invalid_value",
            {},
        ),
        (
            UnsupportedScheduler("not linear", param="scheduler"),
            400,
            "invalid_request_error",
            "invalid_value",
            {},
        ),
        (
            ModelNotReady("warming up"),
            503,
            "server_error",
            "server_is_overloaded",
            {"retry-after": "5"},
        ),
        (
            Requeue("full", pending_s=12.2),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
            {"retry-after": "13"},
        ),
        (
            Requeue("full", pending_s=0.0),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
            {"retry-after": "1"},
        ),
        (
            Requeue("full", pending_s=1e6),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
            {"retry-after": "60"},
        ),
        (
            GenerationFailed("latents are not numbers"),
            500,
            "server_error",
            "generation_failed",
            {"x-should-retry": "false"},
        ),
    ],
)
def test_each_failure_has_its_status(
    failure: StepwiseError, status: int, kind: str, code: str, headers: dict[str, str]
) -> None:
    answer = ask(app_over(OneColour(failure=failure)), "POST", GENERATIONS, json=PROMPT)
    assert answer.status_code == status
    assert answer.json()["error"] == {
        "message": failure.message,
        "type": kind,
        "param": getattr(failure, "param", None),
        "code": code,
    }
    assert headers.items() <= dict(answer.headers).items()


def test_what_nobody_expected_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    app = app_over(OneColour(failure=RuntimeError("the password is hunter2")))
    answer = ask(app, "POST", GENERATIONS, json=PROMPT, headers={"x-request-id": "mine"})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "hunter2" not in answer.text
    assert answer.headers["x-request-id"] == "mine"
    (record,) = [each for each in caplog.records if each.exc_info]
    assert "mine" in record.getMessage()
    assert "hunter2" in str(record.exc_info)


@pytest.mark.parametrize("given", ["abc", "A-1_2.3", "x" * 128])
def test_a_good_request_id_is_kept(given: str) -> None:
    backend = OneColour()
    answer = ask(
        app_over(backend), "POST", GENERATIONS, json=PROMPT, headers={"x-request-id": given}
    )
    assert answer.headers["x-request-id"] == given
    assert backend.asked[0].rows[0].id == f"{given}-0"


@pytest.mark.parametrize("given", [None, "", "a b", "a/b", "x" * 129, "a;b=1", b"\xe9"])
def test_any_other_is_replaced(given: str | bytes | None) -> None:
    headers = {} if given is None else {"x-request-id": given}
    first, second = (
        ask(app_over(OneColour()), "GET", "/healthz", headers=headers).headers["x-request-id"]
        for _ in range(2)
    )
    assert first.startswith("req-")
    assert first != second


def test_one_line_is_logged_for_a_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="deployments.ingress")
    ask(app_over(OneColour()), "GET", "/v1/a%0Ab", headers={"x-request-id": "mine"})
    (line,) = [each.getMessage() for each in caplog.records]
    assert line.startswith("GET '/v1/a\\nb' 404 ")
    assert line.endswith(" ms mine")


def test_a_client_that_leaves_while_sending_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="deployments.ingress")
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": GENERATIONS,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    asyncio.run(app_over(OneColour())(scope, receive, send))  # type: ignore[arg-type]
    assert sent == []
    (line,) = [each.getMessage() for each in caplog.records]
    assert " 499 " in line


def test_the_routes_load_neither_torch_nor_ray() -> None:
    script = (
        "import sys, deployments.ingress.routes\n"
        "print(sorted({'torch', 'ray', 'diffusers', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["max_body_mb", "max_megapixels", "body_timeout_s"])
def test_settings_name_what_is_wrong(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a finite number above 0, got {value}"):
        IngressSettings(**{name: value})


def test_rays_errors_become_ours() -> None:
    bad_mask = InvalidImage("mask is of another size", param="mask", code="odd")
    assert translated(wrapped(bad_mask)) is bad_mask
    assert translated(wrapped(wrapped(bad_mask))) is bad_mask

    rejected = translated(BackPressureError(9, 8, 429, 7.5))
    assert isinstance(rejected, Requeue)
    assert rejected.pending_s == 7.5
    assert isinstance(translated(ActorDiedError()), ModelNotReady)
    assert isinstance(translated(ReplicaUnavailableError("r")), ModelNotReady)

    bug = RuntimeError("a bug")
    assert translated(wrapped(bug)) is bug


def wrapped(error: Exception) -> Exception:
    """The error as it leaves a task that raised it."""
    task_error = RayTaskError("generate", "", error)
    both: Exception = task_error.as_instanceof_cause()
    return both


class TestOpenAIClient:
    """The real client, unchanged, over the app in-process."""

    def test_generate(self) -> None:
        backend = OneColour()
        answer = client(backend).images.generate(
            prompt="a red house",
            model="tiny",
            n=2,
            size="256x256",
            quality="high",
            response_format="b64_json",
            output_format="jpeg",
            extra_body={"seed": 11, "scheduler": "DDIMScheduler", "negative_prompt": "fog"},
        )
        assert answer.data is not None
        assert [each.seed for each in answer.data] == [11, 12]  # type: ignore[attr-defined]
        picture = opened(answer.data[1].b64_json or "")
        assert (picture.format, picture.size) == ("JPEG", (256, 256))
        assert np.abs(np.array(picture)[0, 0] - np.array(colour_of(12))).max() <= 4
        assert (answer.size, answer.output_format) == ("256x256", "jpeg")
        assert backend.asked[0].rows[0].num_inference_steps == 30

    def test_edit_with_mask(self) -> None:
        backend = OneColour()
        image, mask = png(64, 64), png(64, 64, "RGBA")
        answer = client(backend).images.edit(
            image=image, mask=mask, prompt="a red house", n=2, extra_body={"seed": 3}
        )
        assert answer.data is not None
        assert len(answer.data) == 2
        assert (backend.asked[0].image, backend.asked[0].mask) == (image, mask)

    def test_edit_of_a_list_of_one(self) -> None:
        backend = OneColour()
        client(backend).images.edit(image=[png()], prompt="a red house")
        assert len(backend.asked[0].rows) == 1

    def test_models(self) -> None:
        assert [each.id for each in client(OneColour()).models.list()] == ["tiny"]

    def test_errors_become_the_clients_exceptions(self) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            client(OneColour()).images.generate(prompt="a", extra_body={"num_images": 3})
        assert (refused.value.param, refused.value.code) == ("num_images", "unknown_parameter")
        assert refused.value.request_id
        with pytest.raises(openai.NotFoundError) as unknown:
            client(OneColour()).images.generate(prompt="a", model="dall-e-3")
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.RateLimitError):
            client(OneColour(failure=Requeue("full", pending_s=3))).images.generate(prompt="a")

    def test_a_failure_that_would_repeat_is_not_retried(self) -> None:
        backend = OneColour(failure=GenerationFailed("latents are not numbers"))
        with pytest.raises(openai.InternalServerError):
            client(backend, max_retries=2).images.generate(prompt="a")
        assert len(backend.asked) == 1


def client(backend: OneColour, *, max_retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(
        api_key="none",
        base_url="http://ingress/v1",
        max_retries=max_retries,
        http_client=httpx2.Client(transport=InProcess(app_over(backend))),
    )


def opened(b64: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(b64, validate=True)))


@pytest.mark.parametrize(
    ("accept", "fields", "kind"),
    [
        ("image/png", {}, "image/png"),
        ("image/webp", {}, "image/webp"),
        ("image/*", {"output_format": "jpeg"}, "image/jpeg"),
        ("image/jpeg;q=0.9, image/png", {"output_format": "png"}, "image/png"),
        ("image/png, application/json", {}, "application/json"),
        ("image/gif", {}, "application/json"),
        ("*/*", {}, "application/json"),
    ],
)
def test_a_client_may_accept_the_picture_itself(
    accept: str, fields: dict[str, Any], kind: str
) -> None:
    answer = ask(
        app_over(OneColour()),
        "POST",
        GENERATIONS,
        json={**PROMPT, "seed": 7, **fields},
        headers={"accept": accept},
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    if kind != "application/json":
        assert answer.headers["x-seed"] == "7"
        assert Image.open(io.BytesIO(answer.content)).get_format_mimetype() == kind


@pytest.mark.parametrize(
    ("fields", "param"), [({"n": 2}, "n"), ({"output_format": "webp"}, "output_format")]
)
def test_an_accepted_picture_is_one_and_of_one_format(fields: dict[str, Any], param: str) -> None:
    answer = ask(
        app_over(OneColour()),
        "POST",
        GENERATIONS,
        json={**PROMPT, **fields},
        headers={"accept": "image/png"},
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
