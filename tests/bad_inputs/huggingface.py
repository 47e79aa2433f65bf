"""Requests of Hugging Face's clients that must be refused, in the shape that they read."""

import json
from typing import Any

from tests.bad_inputs.case import (
    BAD_JSON,
    BASE64,
    BOMB,
    DAMAGED,
    DEEP,
    GOOD,
    JSON,
    LONG,
    MISSING,
    MULTIPART,
    NOT_AN_IMAGE,
    TOO_LARGE,
    TYPE,
    UNKNOWN,
    VALUE,
    WRONG_KIND,
    BadInput,
    png_header,
    whole,
)

URL = "/hf/models/{model}"


def sent(
    name: str, content: bytes, code: str, says: str, *, path: str = URL, **more: Any
) -> BadInput:
    """A body as it stands."""
    return whole(name, path, content, code, says, shape="huggingface", **more)


def task(
    name: str, code: str, says: str, *, inputs: object = "a red house", **parameters: object
) -> BadInput:
    """A task whose JSON is well formed but for these."""
    body = {"inputs": inputs, "parameters": parameters}
    return sent(name, json.dumps(body).encode(), code, says)


TASKS = [
    task("inputs as number", TYPE, "a string", inputs=7),
    task("inputs as null", TYPE, "a string", inputs=None),
    task("inputs as list", TYPE, "a string", inputs=["a"]),
    task("inputs empty", VALUE, "empty", inputs=""),
    task("inputs too long", VALUE, "32000", inputs=LONG),
    task("steps as text", TYPE, "an integer", num_inference_steps="20"),
    task("steps zero", VALUE, "from 1", num_inference_steps=0),
    task("guidance negative", VALUE, "from 0", guidance_scale=-1),
    task("seed negative", VALUE, "-1", seed=-1),
    task("seed of 2**63", VALUE, "seed", seed=2**63),
    task("width alone", VALUE, "both sides", width=512),
    task("width odd", VALUE, "nearest valid size", width=513, height=513),
    task("scheduler unknown", VALUE, "choose one of", scheduler="x"),
    task("two names", VALUE, "same", steps=7, num_inference_steps=8),
    task("unknown parameter", UNKNOWN, "'nonsense'", nonsense=1),
    task("misspelt parameter", UNKNOWN, "did you mean 'seed'?", sed=1),
    task("n", UNKNOWN, "known here", n=2),
    task("an adapter", TYPE, "loras must be an array", lora="x"),
    task("target size as text", TYPE, "target_size", target_size="64x64"),
    task("half a target size", MISSING, "height", target_size={"width": 64}, inputs=BASE64),
    task(
        "two sizes",
        VALUE,
        "one of the two",
        inputs=BASE64,
        target_size={"width": 64, "height": 64},
        width=64,
        height=64,
    ),
    task("a prompt for an image", VALUE, "not base64", prompt="a barn"),
    task("an image cut short", VALUE, "not base64", inputs=BASE64[:-3]),
    task("an address", VALUE, "none is fetched", inputs="https://a.b/c.png", prompt="a barn"),
    task("no picture in it", NOT_AN_IMAGE, "PNG", inputs="aGVsbG8=", prompt="a barn"),
    task("a bomb", TOO_LARGE, "20000", inputs=BOMB),
    task("strength zero", VALUE, "strength", inputs=BASE64, strength=0),
    task("strength above 1", VALUE, "strength", inputs=BASE64, strength=2),
]

BODIES = [
    sent("no body", b"", BAD_JSON, "empty"),
    sent("no inputs", b"{}", MISSING, "inputs"),
    sent("an array", b"[]", TYPE, "JSON object"),
    sent("a string", b'"a red house"', TYPE, "JSON object"),
    sent("bad UTF-8", b'{"inputs": "\xff"}', BAD_JSON, "not UTF-8"),
    sent("parameters as text", b'{"inputs": "a", "parameters": "b"}', TYPE, "an object"),
    sent("parameters as list", b'{"inputs": "a", "parameters": []}', TYPE, "an object"),
    sent("unknown field", b'{"inputs": "a", "input": "b"}', UNKNOWN, "'inputs'"),
    sent(
        "deep parameters",
        b'{"inputs": "a", "parameters": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
        BAD_JSON,
        "nested too deeply",
    ),
    sent("a form", GOOD, WRONG_KIND, JSON, content_type=MULTIPART),
    sent("text", b"a red house", WRONG_KIND, JSON, content_type="text/plain"),
    sent("an image of nothing", b"", DAMAGED, "", content_type="image/png"),
    sent("an image of text", b"a red house", NOT_AN_IMAGE, "PNG", content_type="image/png"),
    sent(
        "bytes of text", b"a red house", NOT_AN_IMAGE, "", content_type="application/octet-stream"
    ),
    sent("an untyped bomb", png_header(20_000, 20_000), TOO_LARGE, "20000", content_type=None),
    sent(
        "model unknown",
        b'{"inputs": "a"}',
        "model_not_found",
        "choose one of",
        status=404,
        path="/hf/models/stabilityai/stable-diffusion-9",
    ),
    sent(
        "model of no name",
        b'{"inputs": "a"}',
        "model_not_found",
        "''",
        status=404,
        path="/hf/models/",
    ),
]
