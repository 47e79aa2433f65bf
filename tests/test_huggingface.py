"""Hugging Face's two tasks: what its clients send, what they get, and the errors they read."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import BadRequestError
from huggingface_hub.utils._http import default_client_factory
from PIL import Image

from deployments.errors import GenerationFailed, ModelNotReady
from tests.ingress_backend import CARD, InProcess, OneColour, app_over, ask, colour_of, png

URL = "/hf/models/tiny"
IMAGE = base64.b64encode(png(64, 32)).decode()


def post(backend: OneColour, inputs: str, **parameters: Any) -> Any:
    return ask(app_over(backend), "POST", URL, json={"inputs": inputs, "parameters": parameters})


def test_text_to_image_answers_the_picture() -> None:
    backend = OneColour()
    answer = post(
        backend,
        "a red house",
        negative_prompt="fog",
        width=96,
        height=64,
        num_inference_steps=9,
        guidance_scale=3,
        scheduler="DDIMScheduler",
        seed=7,
    )
    assert answer.status_code == 200, answer.text
    assert (answer.headers["content-type"], answer.headers["x-seed"]) == ("image/png", "7")
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.format, picture.size) == ("PNG", (96, 64))
    assert picture.getpixel((1, 1)) == colour_of(7)
    (row,) = backend.asked[0].rows
    assert (row.prompt, row.negative_prompt) == ("a red house", "fog")
    assert (row.num_inference_steps, row.guidance_scale) == (9, 3.0)
    assert row.scheduler == "DDIMScheduler"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("*/*", "image/png"), ("image/jpeg", "image/jpeg"), ("image/webp, */*", "image/webp")],
)
def test_the_accept_header_names_the_format(accept: str, kind: str) -> None:
    answer = ask(
        app_over(OneColour()),
        "POST",
        URL,
        json={"inputs": "a red house", "parameters": None, "options": {"wait_for_model": True}},
        headers={"accept": accept},
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert Image.open(io.BytesIO(answer.content)).get_format_mimetype() == kind


def test_image_to_image_takes_base64_a_prompt_and_a_size() -> None:
    backend = OneColour()
    target = {"width": 64, "height": 96}
    answer = post(backend, IMAGE, prompt="a barn", target_size=target, strength=0.5, steps=10)
    assert answer.status_code == 200, answer.text
    (request,) = backend.asked
    assert request.image == png(64, 32)
    (row,) = request.rows
    assert (row.prompt, row.width, row.height) == ("a barn", 64, 96)
    assert (row.strength, row.num_inference_steps) == (0.5, 10)


@pytest.mark.parametrize(
    ("inputs", "parameters", "is_image"),
    [
        (IMAGE, {}, True),
        (IMAGE, {"num_inference_steps": 5}, True),
        (f"data:image/png;base64,{IMAGE}", {}, True),
        (IMAGE, {"prompt": "a barn"}, True),
        ("a barn", {"num_inference_steps": 5}, False),
    ],
)
def test_an_image_is_told_from_a_prompt(
    inputs: str, parameters: dict[str, Any], is_image: bool
) -> None:
    backend = OneColour()
    assert post(backend, inputs, **parameters).status_code == 200
    assert (backend.asked[0].image is not None) == is_image
    assert (backend.asked[0].rows[0].strength == CARD.default_strength) == is_image


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "application/octet-stream", None])
def test_an_image_without_parameters_is_the_whole_body(kind: str | None) -> None:
    backend = OneColour()
    headers = {} if kind is None else {"content-type": kind}
    answer = ask(app_over(backend), "POST", URL, content=png(), headers=headers)
    assert answer.status_code == 200, answer.text
    assert backend.asked[0].image == png()
    assert backend.asked[0].rows[0].prompt == ""


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"inputs": "x", "parameters": {"seeds": 1}}, "did you mean 'seed'"),
        ({"inputs": "x", "parameters": {"lora": "y"}}, "loras must be an array"),
        ({"inputs": "x", "parameters": {"width": "64"}}, "width must be an integer"),
        ({"inputs": "x", "parameters": {"width": 65, "height": 64}}, "nearest valid size is"),
        ({"inputs": "x", "parameters": [1]}, "parameters must be an object"),
        ({"inputs": " "}, "prompt is empty"),
        ({"inputs": 3}, "inputs must be a string"),
        ({"prompt": "x"}, "unknown parameter 'prompt'"),
        ({"inputs": "a barn", "parameters": {"prompt": "x"}}, "inputs is not base64"),
        ({"inputs": "http://e.org/a", "parameters": {"prompt": "x"}}, "none is fetched"),
        ({"inputs": "aGVsbG8=", "parameters": {"prompt": "x"}}, "not a PNG, JPEG or WebP"),
        (
            {
                "inputs": IMAGE,
                "parameters": {"target_size": {"width": 64, "height": 64}, "width": 64},
            },
            "target_size came together with width",
        ),
        (
            {"inputs": IMAGE, "parameters": {"target_size": {"width": 64}}},
            "target_size: height is missing",
        ),
        (
            {"inputs": IMAGE, "parameters": {"target_size": {"width": 64, "heigth": 64}}},
            "target_size: unknown parameter 'heigth'",
        ),
    ],
)
def test_bad_input_is_explained_in_a_string(body: dict[str, Any], says: str) -> None:
    answer = ask(app_over(OneColour()), "POST", URL, json=body)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error", "error_type"}
    assert says in answer.json()["error"]


def test_json_nested_too_deeply_is_refused() -> None:
    deep = b'{"inputs": "x", "parameters": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    answer = ask(
        app_over(OneColour()),
        "POST",
        URL,
        content=deep,
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 400
    assert "nested too deeply" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "kind", "status", "says"),
    [
        ("/hf/models/org/other-model", "application/json", 404, "'org/other-model' is not served"),
        ("/hf/models/loading", "application/json", 503, "still loading"),
        (URL, "text/plain", 400, "content-type must be application/json"),
    ],
)
def test_the_id_is_the_rest_of_the_path(path: str, kind: str, status: int, says: str) -> None:
    answer = ask(
        app_over(OneColour()),
        "POST",
        path,
        content=b'{"inputs": "x"}',
        headers={"content-type": kind},
    )
    assert answer.status_code == status
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("failure", "status", "header"),
    [
        (GenerationFailed("not numbers"), 500, ("x-should-retry", "false")),
        (ModelNotReady("lost"), 503, ("retry-after", "5")),
    ],
)
def test_failures_keep_their_headers(
    failure: Exception, status: int, header: tuple[str, str]
) -> None:
    answer = post(OneColour(failure=failure), "x")
    assert (answer.status_code, answer.json()["error"]) == (status, str(failure))
    assert answer.headers[header[0]] == header[1]
    assert answer.headers["x-request-id"]


class TestInferenceClient:
    """The real client, unchanged, over the app in-process."""

    @pytest.fixture
    def backend(self) -> Iterator[OneColour]:
        backend = OneColour()
        transport = InProcess(app_over(backend))
        huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=transport))
        yield backend
        huggingface_hub.set_client_factory(default_client_factory)

    @pytest.fixture
    def client(self, backend: OneColour) -> huggingface_hub.InferenceClient:
        return huggingface_hub.InferenceClient(model=f"http://ingress{URL}", token="none")

    def test_text_to_image(self, client: huggingface_hub.InferenceClient) -> None:
        picture = client.text_to_image("a red house", seed=7, width=96, height=64)
        assert (picture.size, picture.getpixel((1, 1))) == ((96, 64), colour_of(7))

    def test_image_to_image(
        self, client: huggingface_hub.InferenceClient, backend: OneColour
    ) -> None:
        assert client.image_to_image(png(64, 64), prompt="a barn", strength=0.5).size == (64, 64)
        assert client.image_to_image(png(64, 64)).size == (64, 64)
        assert [request.image for request in backend.asked] == [png(64, 64)] * 2
        assert [request.rows[0].prompt for request in backend.asked] == ["a barn", ""]

    def test_errors_are_shown(self, client: huggingface_hub.InferenceClient) -> None:
        with pytest.raises(BadRequestError, match="num_inference_steps must be from 1 to 100"):
            client.text_to_image("a red house", num_inference_steps=101)
