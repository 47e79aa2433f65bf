"""A bad request and the refusal it must get, and what such requests are made of."""

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from tests.ingress_backend import png

GENERATIONS = "/v1/images/generations"
EDITS = "/v1/images/edits"
BOUNDARY = "a-boundary-nobody-else-uses"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"

VALUE, TYPE, UNKNOWN = "invalid_value", "invalid_type", "unknown_parameter"
MISSING, BAD_JSON, BAD_FORM = "missing_required_parameter", "invalid_json", "invalid_multipart"
WRONG_KIND = "unsupported_content_type"
NOT_AN_IMAGE, DAMAGED, TOO_LARGE = "unsupported_image_format", "invalid_image", "image_too_large"

DEEP = 100_000
"""Levels of nesting, many more than any parser has stack for."""


@dataclass(frozen=True, kw_only=True)
class BadInput:
    """One request to send byte for byte, and the refusal it must get."""

    name: str
    path: str
    """`{model}` in it stands for the id of a model that is there."""
    method: str = "POST"
    content: bytes = b""
    content_type: str | None = None
    more_headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 400
    param: str | None = None
    code: str
    says: str = ""
    """Words that the message must hold: the value, the cure or the hint."""
    shape: Literal["openai", "automatic1111", "huggingface"] = "openai"
    """Whose error it is: only OpenAI's has a `param`."""

    @property
    def headers(self) -> dict[str, str]:
        kind = {} if self.content_type is None else {"content-type": self.content_type}
        return kind | dict(self.more_headers)

    def url(self, model: str) -> str:
        """Where to send it, to a service of this model."""
        return self.path.replace("{model}", model)

    def check(self, answer: httpx.Response) -> None:
        """Fails unless the answer is the refusal, to the letter of its shape."""
        param, code, message = _REFUSAL_OF[self.shape](answer.json())
        found = (answer.status_code, param, code)
        assert found == (self.status, self.param, self.code), message
        assert self.says in message, message
        assert 0 < len(message) < 1500
        assert answer.headers["x-request-id"]


def _openai(body: dict[str, Any]) -> tuple[str | None, str, str]:
    error = body.pop("error")
    assert not body
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error["param"], error["code"], error["message"]


def _automatic1111(body: dict[str, Any]) -> tuple[str | None, str, str]:
    assert set(body) == {"error", "detail", "body", "errors"}
    assert body["detail"] == body["errors"]
    return None, body["error"], body["detail"]


def _huggingface(body: dict[str, Any]) -> tuple[str | None, str, str]:
    assert set(body) == {"error", "error_type"}
    return None, body["error_type"], body["error"]


_REFUSAL_OF = {"openai": _openai, "automatic1111": _automatic1111, "huggingface": _huggingface}


def part(name: str, content: bytes | str, *, filename: str | None = None) -> bytes:
    """One part of a form."""
    data = content.encode() if isinstance(content, str) else content
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is this large and holds one row at most: a decompression bomb's face."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", ihdr)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def encoded(body: Mapping[str, Any]) -> bytes:
    """JSON of the fields that are not None."""
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


PICTURE = png(320, 320)
BASE64 = base64.b64encode(PICTURE).decode()
DATA_URL = f"data:image/png;base64,{BASE64}"
BOMB = base64.b64encode(png_header(20_000, 20_000)).decode()
IMAGE = part("image", PICTURE, filename="upload")
PROMPT = part("prompt", "a red house")
BASE = (IMAGE, PROMPT)
GOOD = form(*BASE)
LONG = "x" * 32_001


def whole(
    name: str,
    path: str,
    content: bytes,
    code: str,
    says: str,
    *,
    content_type: str | None = JSON,
    **more: Any,
) -> BadInput:
    """A body as it stands."""
    return BadInput(
        name=name,
        path=path,
        content=content,
        content_type=content_type,
        code=code,
        says=says,
        **more,
    )


def generation(
    name: str, param: str | None, code: str, says: str = "", status: int = 400, **fields: Any
) -> BadInput:
    """A generation whose JSON is well formed but for `fields`."""
    content = json.dumps({"prompt": "a red house", **fields}).encode()
    return whole(name, GENERATIONS, content, code, says, param=param, status=status)


def raw(name: str, content: bytes, code: str, says: str, **more: Any) -> BadInput:
    """A generation whose body is sent as it stands."""
    return whole(name, GENERATIONS, content, code, says, **more)


def posted(
    name: str,
    path: str,
    param: str | None,
    code: str,
    says: str,
    *parts: bytes,
    content: bytes | None = None,
    content_type: str | None = MULTIPART,
    **more: Any,
) -> BadInput:
    """A form of these parts, or `content` as it stands."""
    content = form(*parts) if content is None else content
    return whole(name, path, content, code, says, param=param, content_type=content_type, **more)


def edit(
    name: str, param: str | None, code: str, says: str, *parts: bytes, **more: Any
) -> BadInput:
    """An edit of these parts."""
    return posted(name, EDITS, param, code, says, *parts, **more)
