"""OpenAI's Images API beyond a plain generation: edits, variations, models, usage, addresses."""

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from PIL import Image

from deployments.ingress.settings import ResultsSettings
from deployments.requests import GenerationRequest, ImageResult
from tests.bad_inputs import EDITS, GENERATIONS
from tests.ingress_backend import CARD, InProcess, OneColour, app_over, ask, png

VARIATIONS = "/v1/images/variations"
PROMPT = {"prompt": "a red house"}


def data_url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def test_a_json_edit_is_the_same_as_a_form() -> None:
    backend = OneColour()
    image, mask = png(64, 64), png(64, 64, "RGBA")
    sent = {
        **PROMPT,
        "images": [{"image_url": data_url(image)}],
        "mask": {"image_url": data_url(mask)},
        "seed": 3,
    }
    answer = ask(app_over(backend), "POST", EDITS, json=sent)
    assert answer.status_code == 200, answer.text
    files = {"image": image, "mask": mask}
    ask(app_over(backend), "POST", EDITS, files=files, data={**PROMPT, "seed": "3"})
    by_json, by_form = backend.asked
    assert (by_json.image, by_json.mask, by_json.prepare) == (image, mask, by_form.prepare)
    assert (by_json.rows[0].seed, by_json.rows[0].strength) == (3, by_form.rows[0].strength)


def test_a_json_edit_may_be_larger_than_other_json() -> None:
    backend = OneColour()
    buffer = io.BytesIO()
    Image.effect_noise((1200, 1200), 80).save(buffer, "png")
    assert len(buffer.getvalue()) > 1_000_000
    sent = {**PROMPT, "images": [{"image_url": data_url(buffer.getvalue())}]}
    assert ask(app_over(backend), "POST", EDITS, json=sent).status_code == 200
    assert backend.asked[0].image == buffer.getvalue()
    refused = ask(app_over(backend, max_body_mb=1), "POST", EDITS, json=sent)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")


def test_a_mask_may_be_called_mask_image() -> None:
    backend = OneColour()
    mask = png(64, 64, "RGBA")
    files = {"image": png(64, 64), "mask_image": mask}
    assert ask(app_over(backend), "POST", EDITS, files=files, data=PROMPT).status_code == 200
    assert backend.asked[0].mask == mask


def test_a_variation_is_an_edit_without_a_prompt() -> None:
    backend = OneColour()
    answer = ask(
        app_over(backend),
        "POST",
        VARIATIONS,
        files={"image": ("upload", png(96, 48), "application/octet-stream")},
        data={"n": "2", "seed": "5", "size": "64x64", "user": "u"},
    )
    assert answer.status_code == 200, answer.text
    (request,) = backend.asked
    assert request.image == png(96, 48)
    assert [(row.prompt, row.seed, row.strength) for row in request.rows] == [
        ("", 5, CARD.default_strength),
        ("", 6, CARD.default_strength),
    ]


@pytest.mark.parametrize(
    ("files", "data", "param", "code"),
    [
        ({}, {"n": "1"}, "image", "missing_required_parameter"),
        ({"image": png(), "mask": png()}, {}, "mask", "unknown_parameter"),
        ({"image": png()}, PROMPT, "prompt", "unknown_parameter"),
        ({"image": png()}, {"stream": "true"}, "stream", "unknown_parameter"),
        ({"image": b"GIF89a"}, {}, "image", "unsupported_image_format"),
    ],
)
def test_what_no_variation_takes(
    files: dict[str, bytes], data: dict[str, str], param: str, code: str
) -> None:
    # `n` as a file, so that a form is sent even without an image.
    parts = [*files.items(), *((name, (None, value)) for name, value in data.items())]
    answer = ask(app_over(OneColour()), "POST", VARIATIONS, files=parts)
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (param, code)


def test_a_model_by_its_id() -> None:
    app = app_over(OneColour())
    entry = {"id": "tiny", "object": "model", "created": CARD.created, "owned_by": "stepwise"}
    assert ask(app, "GET", "/v1/models/tiny").json() == entry
    unknown = ask(app, "GET", "/v1/models/some/dall-e-3")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert "'some/dall-e-3'" in unknown.json()["error"]["message"]
    assert ask(app, "GET", "/v1/models/loading").status_code == 503


@pytest.mark.parametrize(
    ("path", "sent", "text", "image", "output"),
    [
        (GENERATIONS, {"prompt": "a red house"}, 3, 0, 16),
        (GENERATIONS, {"prompt": "a  house\n", "negative_prompt": "fog, rain", "n": 3}, 4, 0, 48),
        (GENERATIONS, {"prompt": "a", "size": "40x64"}, 1, 0, 12),
        (EDITS, {"prompt": "a", "images": [{"image_url": data_url(png(64, 64))}]}, 1, 16, 16),
        (
            EDITS,
            {
                "prompt": "a",
                "images": [{"image_url": data_url(png(64, 64))}],
                "mask": {"image_url": data_url(png(64, 64))},
                "n": 2,
            },
            1,
            32,
            32,
        ),
    ],
)
def test_usage_counts_words_and_patches(
    path: str, sent: dict[str, Any], text: int, image: int, output: int
) -> None:
    usage = ask(app_over(OneColour()), "POST", path, json=sent).json()["usage"]
    assert usage == {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": output,
        "total_tokens": text + image + output,
    }


def test_what_a_row_warns_of_is_said_once() -> None:
    class Cutting(OneColour):
        async def generate(self, request: GenerationRequest) -> list[ImageResult]:
            results = await super().generate(request)
            return [replace(each, warnings=("prompt was cut",)) for each in results]

    sent = {**PROMPT, "n": 2, "style": "vivid"}
    warnings = ask(app_over(Cutting()), "POST", GENERATIONS, json=sent).json()["warnings"]
    assert warnings == ["style was ignored: say it in the prompt", "prompt was cut"]


def test_names_of_other_services_are_understood() -> None:
    backend = OneColour()
    sent = {**PROMPT, "steps": 4, "cfg_scale": 2, "width": 96, "height": 64}
    answer = ask(app_over(backend), "POST", GENERATIONS, json={**sent, "response_format": "base64"})
    assert "b64_json" in answer.json()["data"][0]
    (row,) = backend.asked[0].rows
    assert (row.num_inference_steps, row.guidance_scale) == (4, 2.0)
    assert (row.width, row.height) == (96, 64)


@pytest.mark.parametrize(
    ("default", "sent", "key"),
    [
        ("b64_json", {}, "b64_json"),
        ("b64_json", {"response_format": "url"}, "url"),
        ("url", {}, "url"),
        ("url", {"response_format": None}, "url"),
        ("url", {"response_format": "b64_json"}, "b64_json"),
        ("url", {"response_format": "base64"}, "b64_json"),
    ],
)
def test_a_picture_comes_in_one_way(
    tmp_path: Path, default: str, sent: dict[str, Any], key: str
) -> None:
    app = app_over(OneColour(), default_response_format=default, results=_results(tmp_path))
    answer = ask(app, "POST", GENERATIONS, json={**PROMPT, "seed": 1, **sent})
    assert [set(each) for each in answer.json()["data"]] == [{key, "seed"}]
    assert len(list(tmp_path.iterdir())) == (key == "url")


class TestOpenAIClient:
    """The real client, unchanged, over the app in-process."""

    def test_variation(self) -> None:
        backend = OneColour()
        with pytest.warns(DeprecationWarning, match="deprecated"):
            answer = client(backend).images.create_variation(image=png(64, 64), n=2, size="256x256")
        assert answer.data is not None
        assert len(answer.data) == 2
        assert backend.asked[0].image == png(64, 64)

    def test_usage(self) -> None:
        answer = client(OneColour()).images.generate(prompt="a red house")
        assert answer.usage is not None
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 16)
        assert answer.usage.input_tokens_details.text_tokens == 3
        assert (answer.background, answer.quality) == ("opaque", "medium")

    def test_url(self, tmp_path: Path) -> None:
        backend = OneColour()
        over = client(backend, results=_results(tmp_path))
        answer = over.images.generate(prompt="a", response_format="url", output_format="webp")
        assert answer.data is not None
        assert answer.data[0].b64_json is None
        url = answer.data[0].url or ""
        assert url.startswith("http://ingress/v1/files/")
        fetched = ask(app_over(backend, results=_results(tmp_path)), "GET", url)
        assert fetched.headers["content-type"] == "image/webp"
        assert Image.open(io.BytesIO(fetched.content)).format == "WEBP"

    def test_a_list_of_images_is_refused_by_name(self) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            client(OneColour()).images.edit(image=[png(), png()], prompt="a")
        assert refused.value.param == "image"

    def test_a_model(self) -> None:
        assert client(OneColour()).models.retrieve("tiny").id == "tiny"


def client(backend: OneColour, **settings: Any) -> openai.OpenAI:
    return openai.OpenAI(
        api_key="none",
        base_url="http://ingress/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=InProcess(app_over(backend, **settings))),
    )


def _results(folder: Path) -> ResultsSettings:
    return ResultsSettings(folder=str(folder), secret="the same for all replicas")
