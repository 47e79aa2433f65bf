"""Jobs that cannot be started, or are not there."""

import json
from typing import Any

from tests.bad_inputs.case import (
    BAD_JSON,
    BASE64,
    BOMB,
    DAMAGED,
    DATA_URL,
    GOOD,
    JSON,
    LONG,
    MULTIPART,
    NOT_AN_IMAGE,
    TOO_LARGE,
    TYPE,
    UNKNOWN,
    VALUE,
    WRONG_KIND,
    BadInput,
)
from tests.bad_inputs.headers import lost

JOBS = "/v1/jobs"


def job(
    name: str,
    param: str | None,
    code: str,
    says: str = "",
    *,
    status: int = 400,
    key: str | None = None,
    **fields: Any,
) -> BadInput:
    """A job whose JSON is well formed but for `fields`."""
    return BadInput(
        name=name,
        path=JOBS,
        content=json.dumps({"prompt": "a red house", **fields}).encode(),
        content_type=JSON,
        more_headers={} if key is None else {"idempotency-key": key},
        param=param,
        code=code,
        says=says,
        status=status,
    )


def body(name: str, content: bytes, code: str, says: str, kind: str | None = JSON) -> BadInput:
    """A job whose body is sent as it stands."""
    return BadInput(name=name, path=JOBS, content=content, content_type=kind, code=code, says=says)


IDS = [
    job(f"id {job_id[:20]!r} of {len(job_id)}", "id", VALUE, "1 to 64", id=job_id)
    for job_id in (
        "",
        " ",
        ".",
        "..",
        "-",
        ".hidden",
        "-rf",
        "a b",
        "a/b",
        "a\nb",
        "a\u0000b",
        "a%2fb",
        "\u00e9",
        "\u0661",
        "\U0001f3e0",
        "x" * 65,
        "x" * 100_000,
        "'; drop table jobs; --",
    )
]

FIELDS = [
    job("id as number", "id", TYPE, "a string", id=7),
    job("id as list", "id", TYPE, "a string", id=[["seven"]]),
    job("two ids", "id", VALUE, "one job", id="seven", key="eight"),
    job("a key of blanks", "id", VALUE, "1 to 64", key="a b"),
    job("a long key", "id", VALUE, "...", key="x" * 4_000),
    job("prompt null", "prompt", TYPE, "a string", prompt=None),
    job("prompt empty", "prompt", VALUE, "empty", prompt=""),
    job("prompt too long", "prompt", VALUE, "32000", prompt=LONG),
    job("n zero", "n", VALUE, "from 1", n=0),
    job("n as text", "n", TYPE, "an integer", n="1"),
    job("a stream", "stream", UNKNOWN, "'stream'", stream=True),
    job("an address", "response_format", UNKNOWN, "known here", response_format="url"),
    job("size of words", "size", VALUE, "512x512", size="big"),
    job("size and width", "width", VALUE, "agree", size="64x64", width=128, height=64),
    job("height alone", "size", VALUE, "both", height=64),
    job("model unknown", "model", "model_not_found", "choose", status=404, model="dall-e-9"),
    job("strength without image", "strength", VALUE, "without an image", strength=0.5),
    job("mask without image", "mask", VALUE, "without an image", mask=BASE64),
    job("image as number", "image", TYPE, "a string", image=7),
    job("image as object", "image", TYPE, "a string", image={"image_url": DATA_URL}),
    job("image of words", "image", VALUE, "not base64", image="a red house"),
    job("image cut short", "image", VALUE, "not base64", image=BASE64[:-3]),
    job("image of another alphabet", "image", VALUE, "not base64", image="-_-_"),
    job("image in Cyrillic", "image", VALUE, "not base64", image="\u0430\u0431\u0432\u0433"),
    job("image is an address", "image", VALUE, "none is fetched", image="http://127.0.0.1/a.png"),
    job("image is a file", "image", VALUE, "none is fetched", image="file:///etc/passwd"),
    job("image is metadata", "image", VALUE, "none is fetched", image="http://169.254.169.254/"),
    job("image is text", "image", NOT_AN_IMAGE, "PNG", image="aGVsbG8gaGVsbG8="),
    job("image empty", "image", DAMAGED, "", image=""),
    job("image is a bomb", "image", TOO_LARGE, "20000", image=BOMB),
    job("mask is a bomb", "mask", TOO_LARGE, "20000", image=BASE64, mask=BOMB),
    job("two masks", "mask_image", VALUE, "same", image=BASE64, mask=BASE64, mask_image=BOMB),
    job("a data URL of text", "image", VALUE, "not base64", image="data:text/plain,hello"),
]

BODIES = [
    body("no body", b"", BAD_JSON, "empty"),
    body("an array", b"[]", TYPE, "JSON object"),
    body("bad UTF-8", b'{"prompt": "\xff"}', BAD_JSON, "not UTF-8"),
    body("a form", GOOD, WRONG_KIND, JSON, MULTIPART),
    body("no type", b'{"prompt": "a"}', WRONG_KIND, JSON, None),
]

LOST = [
    lost(method, f"{JOBS}/{job_id}{rest}", 404, "job_not_found", param="id")
    for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/events"))
    for job_id in ("no-such-job", "%2e%2e", "a%20b", "%F0%9F%8F%A0", "x" * 1_000)
]
