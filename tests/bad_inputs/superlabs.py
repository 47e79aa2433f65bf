"""Requests to the routes of the replaced service that must be refused."""

import json
from collections.abc import Mapping
from typing import Any

from tests.bad_inputs.case import (
    BAD_JSON,
    DAMAGED,
    DEEP,
    JSON,
    MISSING,
    NOT_AN_IMAGE,
    PICTURE,
    TOO_LARGE,
    TYPE,
    UNKNOWN,
    VALUE,
    WRONG_KIND,
    BadInput,
    form,
    part,
    png_header,
    posted,
)

TXT2IMG, IMG2IMG = "/superlabs_diffusion/v1/txt2img", "/superlabs_diffusion/v1/img2img"
FILE = part("file", PICTURE, filename="a.png")


def message(options: Mapping[str, Any] | None = None, **fields: Any) -> bytes:
    """The part `message_json`."""
    body = {"options": {"prompt": "a red house", **(options or {})}, **fields}
    return part("message_json", json.dumps(body))


def sent(
    name: str,
    param: str | None,
    code: str,
    says: str,
    *parts: bytes,
    path: str = TXT2IMG,
    **more: Any,
) -> BadInput:
    """A form of these parts."""
    return posted(name, path, param, code, says, *parts, **more)


def option(name: str, param: str, code: str, says: str, **options: Any) -> BadInput:
    """A message whose options are well formed but for these."""
    return sent(name, param, code, says, message(options))


OPTIONS = [
    option("prompt as number", "prompt", TYPE, "a string", prompt=7),
    option("prompt empty", "prompt", VALUE, "empty", prompt=""),
    option("steps as text", "num_inference_steps", TYPE, "integer", num_inference_steps="20"),
    option("steps zero", "num_inference_steps", VALUE, "from 1", num_inference_steps=0),
    option("guidance as text", "guidance_scale", TYPE, "a number", guidance_scale="7"),
    option("seed negative", "seed", VALUE, "-1", seed=-1),
    option("width alone", "size", VALUE, "both sides", width=512),
    option("width odd", "size", VALUE, "nearest valid size", width=513, height=513),
    option("strength without image", "strength", VALUE, "without an image", strength=0.5),
    option("unknown option", "nonsense", UNKNOWN, "'nonsense'", nonsense=1),
    option("misspelt option", "promt", UNKNOWN, "'prompt'", promt="a"),
]

MESSAGES = [
    sent("form empty", "message_json", MISSING, "message_json is missing"),
    sent("no options", "options", MISSING, "required", part("message_json", "{}")),
    sent("options null", "prompt", MISSING, "required", part("message_json", '{"options": null}')),
    sent("options as text", "options", TYPE, "object", part("message_json", '{"options": "a"}')),
    sent("message empty", None, BAD_JSON, "empty", part("message_json", "")),
    sent("message of words", None, BAD_JSON, "not valid JSON", part("message_json", "a house")),
    sent("message an array", None, TYPE, "JSON object", part("message_json", "[]")),
    sent("message not UTF-8", "message_json", VALUE, "UTF-8", part("message_json", b"\xff")),
    sent(
        "message deep",
        None,
        BAD_JSON,
        "nested too deeply",
        part("message_json", b'{"options": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}"),
    ),
    sent("two messages", "message_json", VALUE, "2 times", message(), message()),
    sent("unknown field", "modle", UNKNOWN, "'model'", message(modle="x")),
    sent("model unknown", "model", "model_not_found", "choose", message(model="x"), status=404),
    sent("note as number", "note", TYPE, "a string", message(note=7)),
    sent("unknown part", "photo", UNKNOWN, "'photo'", message(), part("photo", "x")),
    sent("file for txt2img", "file", UNKNOWN, "'file'", message(), FILE),
    sent("JSON", None, WRONG_KIND, "multipart", content=b"{}", content_type=JSON),
    sent("no type", None, WRONG_KIND, "multipart", content=form(message()), content_type=None),
]

URLENCODED = [
    sent(
        name,
        param,
        code,
        says,
        content=content,
        content_type="application/x-www-form-urlencoded",
    )
    for name, content, param, code, says in (
        ("URL-encoded nothing", b"", "message_json", MISSING, "message_json is missing"),
        ("URL-encoded words", b"a red house", None, "invalid_form", "malformed"),
        ("URL-encoded bytes", b"message_json=%FF", "message_json", VALUE, "UTF-8"),
        ("URL-encoded too much", b"a=1&" * 100 + b"a=1", None, "invalid_form", "malformed"),
    )
]

FILES = [
    sent("no file", "file", MISSING, "file", message(), path=IMG2IMG),
    sent("two files", "file", VALUE, "2 were sent", message(), FILE, FILE, path=IMG2IMG),
    sent("no message", "message_json", MISSING, "message_json", FILE, path=IMG2IMG),
    sent("file empty", "image", DAMAGED, "", message(), part("file", b""), path=IMG2IMG),
    sent("file of text", "image", NOT_AN_IMAGE, "PNG", message(), part("file", "a"), path=IMG2IMG),
    sent(
        "file is a bomb",
        "image",
        TOO_LARGE,
        "20000",
        message(),
        part("file", png_header(20_000, 20_000)),
        path=IMG2IMG,
    ),
    sent(
        "strength zero", "strength", VALUE, "above 0", message({"strength": 0}), FILE, path=IMG2IMG
    ),
    sent(
        "URL-encoded img2img",
        None,
        WRONG_KIND,
        "multipart",
        path=IMG2IMG,
        content=b"message_json={}",
        content_type="application/x-www-form-urlencoded",
    ),
]
