"""Requests whose headers or addresses are wrong, each with a body that is right."""

from typing import Any

from tests.bad_inputs.case import (
    EDITS,
    GENERATIONS,
    JSON,
    VALUE,
    WRONG_KIND,
    BadInput,
    encoded,
    raw,
)


def asked(
    name: str, param: str | None, code: str, says: str, *, fields: Any = None, **headers: str
) -> BadInput:
    """A generation with these headers; `_` is `-` in their names."""
    return BadInput(
        name=name,
        path=GENERATIONS,
        content=encoded({"prompt": "a red house"} | (fields or {})),
        content_type=JSON,
        more_headers={each.replace("_", "-"): value for each, value in headers.items()},
        param=param,
        code=code,
        says=says,
    )


def typed(kind: str) -> BadInput:
    """A generation in JSON that says it is something else."""
    return raw(
        f"typed {kind[:40]!r}", encoded({"prompt": "a"}), WRONG_KIND, JSON, content_type=kind
    )


def lost(
    method: str, path: str, status: int, code: str, *, param: str | None = None, says: str = ""
) -> BadInput:
    """A request of something that is not there."""
    return BadInput(
        name=f"{method} {path[:60]}",
        path=path,
        method=method,
        status=status,
        code=code,
        param=param,
        says=says,
    )


KINDS = [
    typed(kind)
    for kind in (
        "",
        "json",
        "application",
        "application/jsonl",
        "application/json/",
        "application/vnd.api+json",
        "text/json",
        "application/x-ndjson",
        "image/png",
        "multipart/form-data",
        "application/xml",
        "*/*",
        "application/json, text/plain",
        "a" * 10_000,
    )
]

ACCEPTED = [
    asked("two pictures for Accept", "n", VALUE, "n=1", fields={"n": 2}, accept="image/png"),
    asked(
        "two formats",
        "output_format",
        VALUE,
        "agree",
        fields={"output_format": "webp"},
        accept="image/png",
    ),
    asked(
        "a picture of a stream",
        "stream",
        VALUE,
        "stream false",
        fields={"stream": True},
        accept="image/*",
    ),
]

PAGES = [
    BadInput(
        name=f"a page of {origin[:40]!r}",
        path=path,
        method=method,
        content=encoded({"prompt": "a red house"}),
        content_type="text/plain",
        more_headers={"origin": origin},
        status=403,
        code="foreign_origin",
        says="cors_origins",
    )
    for method, path in (
        ("POST", GENERATIONS),
        ("POST", "/sdapi/v1/txt2img"),
        ("POST", "/sdapi/v1/interrupt"),
        ("POST", "/hf/models/{model}"),
        ("DELETE", "/v1/jobs/seven"),
    )
    for origin in ("https://evil.example", "null", "", "http://" + "x" * 4_000)
]

NOT_FOUND, NOT_ALLOWED = "not_found", "method_not_allowed"

ADDRESSES = [
    lost("GET", "/", 404, NOT_FOUND),
    lost("GET", "/v1", 404, NOT_FOUND),
    lost("GET", "/v1/image", 404, NOT_FOUND),
    lost("POST", "/v1/images/generations/", 404, NOT_FOUND),
    lost("POST", "/v1/%0Ainjected", 404, NOT_FOUND),
    lost("GET", "/v1/..%2f..%2fetc%2fpasswd", 404, NOT_FOUND),
    lost("GET", "/%00", 404, NOT_FOUND),
    lost("GET", "/" + "x" * 8_000, 404, NOT_FOUND),
    lost("GET", "/V1/MODELS", 404, NOT_FOUND),
    lost("GET", "//v1/models", 404, NOT_FOUND),
    lost("GET", "/sdapi/v1/nothing", 404, NOT_FOUND),
    lost("GET", GENERATIONS, 405, NOT_ALLOWED),
    lost("DELETE", EDITS, 405, NOT_ALLOWED),
    lost("POST", "/v1/models", 405, NOT_ALLOWED),
    lost("PUT", "/healthz", 405, NOT_ALLOWED),
    lost("PATCH", "/v1/jobs/seven", 405, NOT_ALLOWED),
    lost("GET", "/sdapi/v1/txt2img", 405, NOT_ALLOWED),
    lost("GET", "/hf/models/{model}", 405, NOT_ALLOWED),
    lost("OPTIONS", "/docs", 405, NOT_ALLOWED),
    lost("TRACE", "/v1/models", 405, NOT_ALLOWED),
    lost("GET", "/v1/models/dall-e-9", 404, "model_not_found", param="model", says="choose one of"),
    lost("GET", "/v1/models/%F0%9F%8F%A0", 404, "model_not_found", param="model"),
    lost("GET", "/v1/models/" + "x" * 4_000, 404, "model_not_found", param="model", says="..."),
    lost("GET", "/v1/files/x", 404, "file_not_found", param="name"),
    lost("GET", "/v1/files/..%2f..%2fetc%2fpasswd", 404, NOT_FOUND),
    lost("GET", "/v1/files/%2e%2e", 404, "file_not_found", param="name"),
]

FILE = "/v1/files/1790000000-AbCdEfGhIjKlMnOpQrStUv.png"

FILES = [
    lost("GET", f"{FILE}{query}", 403, "bad_signature", param="signature")
    for query in (
        "",
        "?expires=99999999999",
        "?signature=" + "0" * 64,
        "?expires=99999999999&signature=" + "0" * 64,
        "?expires=99999999999&signature=" + "0" * 5_000,
        "?expires=-1&signature=x",
        "?expires=" + "9" * 5_000 + "&signature=x",
        "?expires=%D9%A1%D9%A2&signature=%F0%9F%8F%A0",
        "?expires=1e9&signature=x",
    )
]
