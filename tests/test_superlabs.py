"""The replaced service's routes: its form in, a picture out."""

import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.ingress_backend import OneColour, app_over, ask, colour_of, png

TXT2IMG = "/superlabs_diffusion/v1/txt2img"
IMG2IMG = "/superlabs_diffusion/v1/img2img"

OPTIONS = {
    "prompt": "a red house",
    "negative_prompt": "fog",
    "strength": 0.5,
    "num_inference_steps": 10,
    "guidance_scale": 3.5,
    "seed": 7,
    "width": 96,
    "height": 64,
}


def message(**changed: Any) -> str:
    sent = {"model": "tiny", "options": OPTIONS, "request_time": "2024-05-01", "note": "n"}
    return json.dumps({**sent, **changed})


def post(backend: OneColour, path: str, text: str, file: bytes | None = None) -> httpx.Response:
    parts = {"message_json": (None, text.encode())}
    files = parts if file is None else {**parts, "file": ("a.png", file)}
    return ask(app_over(backend), "POST", path, files=files)


def test_img2img_answers_the_picture() -> None:
    backend = OneColour()
    answer = post(backend, IMG2IMG, message(), png())
    assert answer.status_code == 200, answer.text
    assert (answer.headers["content-type"], answer.headers["x-seed"]) == ("image/png", "7")
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.format, picture.size) == ("PNG", (96, 64))
    assert picture.getpixel((1, 1)) == colour_of(7)
    (request,) = backend.asked
    assert request.image == png()
    (row,) = request.rows
    assert (row.prompt, row.negative_prompt, row.strength) == ("a red house", "fog", 0.5)
    assert (row.num_inference_steps, row.guidance_scale) == (10, 3.5)


@pytest.mark.parametrize("encoding", ["multipart", "urlencoded"])
def test_txt2img_takes_a_form_without_a_file(encoding: str) -> None:
    backend = OneColour()
    options = {"prompt": "ein rotes Häuschen & mehr", "steps": 5, "cfg_scale": 2}
    text = json.dumps({"options": options}, ensure_ascii=False)
    if encoding == "multipart":
        answer = post(backend, TXT2IMG, text)
    else:
        answer = ask(app_over(backend), "POST", TXT2IMG, data={"message_json": text})
    assert answer.status_code == 200, answer.text
    (row,) = backend.asked[0].rows
    assert (row.model, row.prompt) == ("tiny", options["prompt"])
    assert (row.num_inference_steps, row.guidance_scale, row.width) == (5, 2.0, 64)


@pytest.mark.parametrize(
    ("path", "text", "file", "status", "param", "says"),
    [
        (TXT2IMG, message(model="sd-old"), None, 404, "model", "choose one of tiny"),
        (TXT2IMG, message(options=OPTIONS), None, 400, "strength", "without an image"),
        (TXT2IMG, message(options={}), None, 400, "prompt", "prompt is missing"),
        (TXT2IMG, message(options=7), None, 400, "options", "options must be an object"),
        (TXT2IMG, message(options={"prompt": "x", "sed": 1}), None, 400, "sed", "'seed'"),
        (TXT2IMG, message(nota="x"), None, 400, "nota", "'note'"),
        (TXT2IMG, "{", None, 400, None, "message_json is not valid JSON"),
        (TXT2IMG, message(), png(), 400, "file", "unknown part 'file'"),
        (IMG2IMG, message(), None, 400, "file", "send one PNG"),
        (IMG2IMG, message(), b"GIF89a", 400, "image", "not a PNG, JPEG or WebP"),
    ],
)
def test_bad_input_is_explained(
    path: str, text: str, file: bytes | None, status: int, param: str | None, says: str
) -> None:
    answer = post(OneColour(), path, text, file)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    assert says in error["message"]


@pytest.mark.parametrize(
    ("path", "kind", "content", "code"),
    [
        (TXT2IMG, "application/json", b"{}", "unsupported_content_type"),
        (IMG2IMG, "application/x-www-form-urlencoded", b"a=1", "unsupported_content_type"),
        (TXT2IMG, "application/x-www-form-urlencoded", b"a=1&" * 99, "invalid_form"),
        (TXT2IMG, "application/x-www-form-urlencoded", b"nothing", "invalid_form"),
        (TXT2IMG, "application/x-www-form-urlencoded", b"message_json=%ff", "invalid_value"),
        (
            TXT2IMG,
            "application/x-www-form-urlencoded",
            b"message_json=1&message_json=2",
            "invalid_value",
        ),
        (TXT2IMG, "application/x-www-form-urlencoded", b"x=1", "unknown_parameter"),
        (TXT2IMG, "application/x-www-form-urlencoded", b"a" * 3_000_001, "request_too_large"),
        (TXT2IMG, "multipart/form-data; boundary=x", b"--x--\r\n", "missing_required_parameter"),
    ],
)
def test_bad_forms_are_refused(path: str, kind: str, content: bytes, code: str) -> None:
    answer = ask(
        app_over(OneColour()), "POST", path, content=content, headers={"content-type": kind}
    )
    assert answer.json()["error"]["code"] == code, answer.text
    assert answer.status_code == (413 if code == "request_too_large" else 400)
