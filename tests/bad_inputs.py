"""Requests that must be refused, each with the answer it must get.

Written as data so that the same cases run against the app in-process and against a live service
of any model: no case depends on a card, only on what no card allows.
"""

import base64
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from tests.ingress_backend import png

GENERATIONS = "/v1/images/generations"
EDITS = "/v1/images/edits"
BOUNDARY = "a-boundary-nobody-else-uses"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class BadInput:
    """One request to send byte for byte, and the refusal it must get."""

    name: str
    path: str
    content: bytes
    content_type: str | None
    param: str | None
    code: str
    says: str = ""
    """Words that the message must hold: the value, the cure or the hint."""
    status: int = 400

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.content_type is None else {"content-type": self.content_type}


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


def _json(
    name: str, param: str | None, code: str, says: str = "", status: int = 400, **fields: Any
) -> BadInput:
    """A generation whose JSON is well formed but for `fields`."""
    body = {"prompt": "a red house", **fields}
    return BadInput(
        name=name,
        path=GENERATIONS,
        content=json.dumps(body).encode(),
        content_type=JSON,
        param=param,
        code=code,
        says=says,
        status=status,
    )


def _raw(
    name: str,
    content: bytes,
    code: str,
    says: str,
    *,
    param: str | None = None,
    content_type: str | None = JSON,
) -> BadInput:
    """A generation whose body is sent as it stands."""
    return BadInput(
        name=name,
        path=GENERATIONS,
        content=content,
        content_type=content_type,
        param=param,
        code=code,
        says=says,
    )


def _edit(
    name: str,
    param: str | None,
    code: str,
    says: str,
    *parts: bytes,
    content: bytes | None = None,
    content_type: str | None = MULTIPART,
) -> BadInput:
    """An edit of these parts, or of `content` as it stands."""
    return BadInput(
        name=name,
        path=EDITS,
        content=form(*parts) if content is None else content,
        content_type=content_type,
        param=param,
        code=code,
        says=says,
    )


PICTURE = png(320, 320)
IMAGE = part("image", PICTURE, filename="upload")
PROMPT = part("prompt", "a red house")
BASE = (IMAGE, PROMPT)
GOOD = form(*BASE)
LONG = "x" * 32_001
NAMELESS = GOOD.replace(b'name="prompt"', b"x=1")
HEADLESS = GOOD.replace(b"Content-", b"\r\n")
VALUE, TYPE, UNKNOWN = "invalid_value", "invalid_type", "unknown_parameter"
MISSING, BAD_JSON, BAD_FORM = "missing_required_parameter", "invalid_json", "invalid_multipart"
WRONG_KIND = "unsupported_content_type"

_TYPES = [
    _json("n as text", "n", TYPE, "an integer", n="2"),
    _json("n as float", "n", TYPE, "an integer", n=2.5),
    _json("n as bool", "n", TYPE, "an integer", n=True),
    _json("n as list", "n", TYPE, "an integer", n=[1]),
    _json("prompt as number", "prompt", TYPE, "a string", prompt=7),
    _json("prompt as null", "prompt", TYPE, "a string", prompt=None),
    _json("prompt as list", "prompt", TYPE, "a string", prompt=["a"]),
    _json("prompt as object", "prompt", TYPE, "a string", prompt={"text": "a"}),
    _json("size as number", "size", TYPE, "a string", size=512),
    _json("size as list", "size", TYPE, "a string", size=[512, 512]),
    _json("seed as text", "seed", TYPE, "an integer", seed="42"),
    _json("seed as float", "seed", TYPE, "an integer", seed=0.5),
    _json("steps as text", "num_inference_steps", TYPE, "integer", num_inference_steps="20"),
    _json("guidance as text", "guidance_scale", TYPE, "a number", guidance_scale="7.5"),
    _json("guidance as bool", "guidance_scale", TYPE, "a number", guidance_scale=True),
    _json("rescale as text", "guidance_rescale", TYPE, "a number", guidance_rescale="0.7"),
    _json("guidance end as list", "guidance_end", TYPE, "a number", guidance_end=[0, 1]),
    _json("priority as number", "priority", TYPE, "a string", priority=1),
    _json("scheduler as number", "scheduler", TYPE, "a string", scheduler=1),
    _json("stream as text", "stream", TYPE, "true or false", stream="true"),
    _json("model as number", "model", TYPE, "a string", model=1),
    _json("quality as number", "quality", TYPE, "a string", quality=2),
]

_VALUES = [
    _json("prompt empty", "prompt", VALUE, "empty", prompt=""),
    _json("prompt of blanks", "prompt", VALUE, "empty", prompt=" \n\t "),
    _json("prompt too long", "prompt", VALUE, "32000", prompt=LONG),
    _json(
        "negative prompt too long", "negative_prompt", VALUE, "32000", negative_prompt="x" * 32_001
    ),
    _json("n zero", "n", VALUE, "from 1", n=0),
    _json("n negative", "n", VALUE, "-1", n=-1),
    _json("n huge", "n", VALUE, "10000000000", n=10**10),
    _json("n beyond every integer", "n", VALUE, "", n=10**4000),
    _json("steps zero", "num_inference_steps", VALUE, "from 1", num_inference_steps=0),
    _json("steps negative", "num_inference_steps", VALUE, "-5", num_inference_steps=-5),
    _json("steps huge", "num_inference_steps", VALUE, "1000000", num_inference_steps=10**6),
    _json("guidance negative", "guidance_scale", VALUE, "-0.5", guidance_scale=-0.5),
    _json("guidance huge", "guidance_scale", VALUE, "from 0", guidance_scale=1e30),
    _json("rescale above 1", "guidance_rescale", VALUE, "from 0 to 1", guidance_rescale=1.1),
    _json("rescale negative", "guidance_rescale", VALUE, "-0.1", guidance_rescale=-0.1),
    _json("guidance start negative", "guidance_start", VALUE, "-1", guidance_start=-1),
    _json("guidance start of percents", "guidance_start", VALUE, "20", guidance_start=20),
    _json("guidance start at the end", "guidance_start", VALUE, "before", guidance_start=1),
    _json("guidance end at the start", "guidance_end", VALUE, "before", guidance_end=0),
    _json(
        "guidance ends before it starts",
        "guidance_start",
        VALUE,
        "0.8 is not before guidance_end 0.2",
        guidance_start=0.8,
        guidance_end=0.2,
    ),
    _json("priority unknown", "priority", VALUE, "low, normal, high", priority="urgent"),
    _json("priority empty", "priority", VALUE, "normal", priority=""),
    _json("seed negative", "seed", VALUE, "-1", seed=-1),
    _json("seed of 2**63", "seed", VALUE, "from 0", seed=2**63),
    _json("seed of 2**64", "seed", VALUE, "from 0", seed=2**64),
    _json("strength without image", "strength", VALUE, "without an image", strength=0.5),
    _json("size of one number", "size", VALUE, "512x512", size="512"),
    _json("size of words", "size", VALUE, "512x512", size="large"),
    _json("size empty", "size", VALUE, "512x512", size=""),
    _json("size negative", "size", VALUE, "512x512", size="-512x512"),
    _json("size zero", "size", VALUE, "512x512", size="0x0"),
    _json("size fractional", "size", VALUE, "512x512", size="512.0x512"),
    _json("size with a cross sign", "size", VALUE, "512x512", size="512\u00d7512"),
    _json("size in other digits", "size", VALUE, "512x512", size="\u0665\u0661\u0662x512"),
    _json("size not a multiple", "size", VALUE, "nearest valid size", size="129x127"),
    _json("size huge", "size", VALUE, "nearest valid size", size="999999x999999"),
    _json("size tiny", "size", VALUE, "nearest valid size", size="1x1"),
    _json("size of long digits", "size", VALUE, "512x512", size="9" * 5000 + "x512"),
    _json("scheduler of a dash", "scheduler", VALUE, "choose one of", scheduler="-"),
    _json("scheduler of a tree", "scheduler", VALUE, "'DPM++ 2M SDE'", scheduler="DPM++ SDE"),
    _json("scheduler unknown", "scheduler", VALUE, "choose one of", scheduler="NoSuchScheduler"),
    _json(
        "scheduler misspelt",
        "scheduler",
        VALUE,
        "did you mean 'EulerDiscreteScheduler'?",
        scheduler="EulerDiscretScheduler",
    ),
    _json("scheduler empty", "scheduler", VALUE, "choose one of", scheduler=""),
    _json("model unknown", "model", "model_not_found", "choose one of", 404, model="dall-e-9"),
    _json("model empty", "model", "model_not_found", "choose one of", 404, model=""),
    _json("quality unknown", "quality", VALUE, "did you mean 'high'?", quality="hihg"),
    _json("output format unknown", "output_format", VALUE, "png, jpeg, webp", output_format="gif"),
    _json("compression above 100", "output_compression", VALUE, "101", output_compression=101),
    _json("compression negative", "output_compression", VALUE, "-1", output_compression=-1),
    _json("response format unknown", "response_format", VALUE, "b64_json", response_format="blob"),
    _json(
        "a stream of addresses", "response_format", VALUE, "b64", stream=True, response_format="url"
    ),
    _json("partials unstreamed", "partial_images", VALUE, "stream true", partial_images=2),
    _json("partials above 3", "partial_images", VALUE, "0 to 3", stream=True, partial_images=4),
    _json("partials negative", "partial_images", VALUE, "-1", stream=True, partial_images=-1),
    _json("transparent", "background", VALUE, "'opaque'", background="transparent"),
    _json("background unknown", "background", VALUE, "opaque", background="green"),
]

_FIELDS = [
    _json("unknown field", "nonsense", UNKNOWN, "'nonsense'", nonsense=1),
    _json("misspelt field", "promt", UNKNOWN, "did you mean 'prompt'?", promt="x"),
    _json("another service's field", "num_images", UNKNOWN, "'n'", num_images=2),
    _json("cfg_rescale", "cfg_rescale", UNKNOWN, "'guidance_rescale'", cfg_rescale=0.7),
    _json("two names", "cfg_scale", VALUE, "same", cfg_scale=7, guidance_scale=8),
    _json("two aliases", "step", VALUE, "same", steps=7, step=8),
    _json("an alias of a wrong type", "steps", TYPE, "an integer", steps="7"),
    _json("an adapter", "loras", UNKNOWN, "adapters are not offered", loras=[{"path": "x"}]),
    _json("width alone", "size", VALUE, "both sides", width=512),
    _json("width and another size", "width", VALUE, "agree", width=512, size="64x64"),
    _json("field of no name", "", UNKNOWN, "''", **{"": 1}),
    _json("field of quotes", "`'\"", UNKNOWN, "", **{"`'\"": 1}),
    _json("field with a line break", "a\nb", UNKNOWN, "", **{"a\nb": 1}),
    _json("field of a long name", "x" * 200, UNKNOWN, "...", **{"x" * 100_000: 1}),
    _json("image in JSON", "image", UNKNOWN, "'image'", image="aGk="),
    _raw("no prompt", b'{"n": 1}', MISSING, "required", param="prompt"),
    _raw("empty object", b"{}", MISSING, "required", param="prompt"),
]

_BODIES = [
    _raw("empty body", b"", BAD_JSON, "empty"),
    _raw("blank body", b"  \n", BAD_JSON, "empty"),
    _raw("not JSON", b"a red house", BAD_JSON, "not valid JSON"),
    _raw("JSON cut short", b'{"prompt": "a red', BAD_JSON, "not valid JSON"),
    _raw("trailing text", b'{"prompt": "a"} {}', BAD_JSON, "not valid JSON"),
    _raw("trailing comma", b'{"prompt": "a",}', BAD_JSON, "not valid JSON"),
    _raw("single quotes", b"{'prompt': 'a'}", BAD_JSON, "not valid JSON"),
    _raw("byte order mark", b'\xef\xbb\xbf{"prompt": "a"}', BAD_JSON, "not valid JSON"),
    _raw("UTF-16", '{"prompt": "a"}'.encode("utf-16"), BAD_JSON, "not valid JSON"),
    _raw("bad UTF-8", b'{"prompt": "\xff\xfe"}', BAD_JSON, "not UTF-8"),
    _raw("encoded surrogate", b'{"prompt": "\xed\xa0\x80"}', BAD_JSON, "not UTF-8"),
    _raw("lone surrogate", b'{"prompt": "\\ud800"}', BAD_JSON, "not valid JSON"),
    _raw("raw control character", b'{"prompt": "a\x00b"}', BAD_JSON, "not valid JSON"),
    _raw("NaN", b'{"prompt": "a", "guidance_scale": NaN}', BAD_JSON, "NaN"),
    _raw("Infinity", b'{"prompt": "a", "guidance_scale": Infinity}', BAD_JSON, "Infinity"),
    _raw("-Infinity", b'{"prompt": "a", "seed": -Infinity}', BAD_JSON, "Infinity"),
    _raw(
        "float overflow",
        b'{"prompt": "a", "guidance_scale": 1e999}',
        VALUE,
        "out of range",
        param="guidance_scale",
    ),
    _raw(
        "integer of 5000 digits",
        b'{"prompt": "a", "seed": 1' + b"0" * 5000 + b"}",
        VALUE,
        "out of range",
        param="seed",
    ),
    _raw("array", b'[{"prompt": "a"}]', TYPE, "JSON object"),
    _raw("string", b'"a red house"', TYPE, "JSON object"),
    _raw("number", b"1", TYPE, "JSON object"),
    _raw("null", b"null", TYPE, "JSON object"),
    _raw("deep arrays", b"[" * 100_000 + b"]" * 100_000, TYPE, "JSON object"),
    _raw(
        "deep value",
        b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        TYPE,
        "a string",
        param="prompt",
    ),
    _raw(
        "deep unknown value",
        b'{"prompt": "a", "extra": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        UNKNOWN,
        "'extra'",
        param="extra",
    ),
    _raw("no content type", b'{"prompt": "a"}', WRONG_KIND, JSON, content_type=None),
    _raw(
        "curl's default type",
        b'{"prompt": "a"}',
        WRONG_KIND,
        "x-www-form-urlencoded",
        content_type="application/x-www-form-urlencoded",
    ),
    _raw("text", b'{"prompt": "a"}', WRONG_KIND, "text/plain", content_type="text/plain"),
    _raw("a form", GOOD, WRONG_KIND, JSON, content_type=MULTIPART),
]

_FORMS = [
    _edit("form empty", "prompt", MISSING, "required"),
    _edit("no image", "image", MISSING, "image is missing", PROMPT),
    _edit("no prompt", "prompt", MISSING, "required", IMAGE),
    _edit("mask only", "image", MISSING, "image", PROMPT, part("mask", PICTURE, filename="m")),
    _edit("n of words", "n", TYPE, "'two'", *BASE, part("n", "two")),
    _edit("n empty", "n", TYPE, "''", *BASE, part("n", "")),
    _edit("n fractional", "n", TYPE, "'1.5'", *BASE, part("n", "1.5")),
    _edit("n huge", "n", VALUE, "999", *BASE, part("n", "9" * 30)),
    _edit("n twice", "n", VALUE, "2 times", *BASE, part("n", "1"), part("n", "1")),
    _edit("prompt twice", "prompt", VALUE, "2 times", *BASE, PROMPT),
    _edit("prompt blank", "prompt", VALUE, "empty", IMAGE, part("prompt", " ")),
    _edit("strength zero", "strength", VALUE, "0.0", *BASE, part("strength", "0")),
    _edit("strength above 1", "strength", VALUE, "1.5", *BASE, part("strength", "1.5")),
    _edit("strength NaN", "strength", VALUE, "nan", *BASE, part("strength", "nan")),
    _edit("guidance NaN", "guidance_scale", VALUE, "nan", *BASE, part("guidance_scale", "NaN")),
    _edit(
        "guidance infinite",
        "guidance_scale",
        VALUE,
        "inf",
        IMAGE,
        PROMPT,
        part("guidance_scale", "inf"),
    ),
    _edit("rescale NaN", "guidance_rescale", VALUE, "nan", *BASE, part("guidance_rescale", "nan")),
    _edit("guidance end", "guidance_end", VALUE, "2.0", *BASE, part("guidance_end", "2")),
    _edit("guidance end of words", "guidance_end", TYPE, "'x'", *BASE, part("guidance_end", "x")),
    _edit("priority unknown", "priority", VALUE, "normal", *BASE, part("priority", "1")),
    _edit("seed negative", "seed", VALUE, "-7", *BASE, part("seed", "-7")),
    _edit("size not a multiple", "size", VALUE, "nearest", *BASE, part("size", "129x127")),
    _edit("scheduler unknown", "scheduler", VALUE, "choose", *BASE, part("scheduler", "x")),
    _edit("stream of words", "stream", TYPE, "'yes please'", *BASE, part("stream", "yes please")),
    _edit(
        "partials unstreamed", "partial_images", VALUE, "true", *BASE, part("partial_images", "1")
    ),
    _edit(
        "a stream of addresses",
        "response_format",
        VALUE,
        "b64",
        *BASE,
        part("stream", "true"),
        part("response_format", "url"),
    ),
    _edit("unknown field", "nonsense", UNKNOWN, "'nonsense'", *BASE, part("nonsense", "1")),
    _edit(
        "steps by two names", "step", VALUE, "same", *BASE, part("steps", "9"), part("step", "8")
    ),
    _edit("an adapter", "lora", UNKNOWN, "adapters are not offered", *BASE, part("lora", "x")),
    _edit(
        "unknown file",
        "photo",
        UNKNOWN,
        "'photo'",
        PROMPT,
        part("photo", PICTURE),
    ),
    _edit("mask_image", "mask", "unsupported_image_format", "6d", *BASE, part("mask_image", "m")),
    _edit("two images", "image", VALUE, "2 files", IMAGE, *BASE),
    _edit(
        "two images[]",
        "image",
        VALUE,
        "2 files",
        *[part("image[]", PICTURE, filename="a")] * 2,
        PROMPT,
    ),
    _edit("two masks", "mask", VALUE, "2 files", *BASE, *[part("mask", PICTURE)] * 2),
    _edit("prompt not UTF-8", "prompt", VALUE, "UTF-8", IMAGE, part("prompt", b"\xff\xfe")),
    _edit("JSON that is none", None, BAD_JSON, "JSON", content=GOOD, content_type=JSON),
    _edit("no content type", None, WRONG_KIND, "multipart", content=GOOD, content_type=None),
    _edit(
        "no boundary", None, BAD_FORM, "boundary", content=GOOD, content_type="multipart/form-data"
    ),
    _edit(
        "another boundary",
        None,
        BAD_FORM,
        "malformed",
        content=GOOD,
        content_type="multipart/form-data; boundary=x",
    ),
    _edit(
        "boundary too long",
        None,
        BAD_FORM,
        "oundary",
        content=GOOD,
        content_type="multipart/form-data; boundary=" + "x" * 300,
    ),
    _edit("body empty", None, BAD_FORM, "closing boundary", content=b""),
    _edit("body not a form", None, BAD_FORM, "malformed", content=b"a red house"),
    _edit("body cut short", None, BAD_FORM, "closing boundary", content=GOOD[:-9]),
    _edit("body cut in the image", None, BAD_FORM, "closing boundary", content=GOOD[:300]),
    _edit(
        "part without a name",
        None,
        BAD_FORM,
        "no name",
        content=NAMELESS,
    ),
    _edit(
        "part without headers",
        None,
        BAD_FORM,
        "malformed",
        content=HEADLESS,
    ),
    _edit("too many parts", None, BAD_FORM, "64", *[part(f"f{i}", "x") for i in range(100)]),
    _edit("header too long", None, BAD_FORM, "malformed", part("x" * 100_000, "1")),
]

_NOT_AN_IMAGE, _DAMAGED, _TOO_LARGE = "unsupported_image_format", "invalid_image", "image_too_large"


def _json_edit(name: str, param: str, code: str, says: str, **fields: Any) -> BadInput:
    """An edit whose JSON is well formed but for `fields`."""
    body = {"prompt": "a red house", "images": [{"image_url": DATA_URL}], **fields}
    content = json.dumps({name: value for name, value in body.items() if value is not None})
    return _edit(f"JSON: {name}", param, code, says, content=content.encode(), content_type=JSON)


DATA_URL = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"

_JSON_EDITS = [
    _json_edit("no images", "images", MISSING, "image_url", images=None),
    _json_edit("images empty", "images", VALUE, "exactly 1 entry", images=[]),
    _json_edit("images as text", "images", TYPE, "an array", images=DATA_URL),
    _json_edit("an image as text", "images", TYPE, "an object", images=[DATA_URL]),
    _json_edit(
        "two images", "images", VALUE, "exactly 1 entry", images=[{"image_url": DATA_URL}] * 2
    ),
    _json_edit("an empty reference", "images", MISSING, "image_url", images=[{}]),
    _json_edit("a null reference", "images", TYPE, "got null", images=[None]),
    _json_edit("misspelt url", "images", UNKNOWN, "'image_ulr'", images=[{"image_ulr": "a"}]),
    _json_edit("a number", "images", TYPE, ".image_url must be a str", images=[{"image_url": 7}]),
    _json_edit("a file id", "images", VALUE, "file_id", images=[{"file_id": "file-1"}]),
    _json_edit(
        "an address",
        "images",
        VALUE,
        "none is fetched",
        images=[{"image_url": "https://a.b/c.png"}],
    ),
    _json_edit(
        "an address of a file",
        "images",
        VALUE,
        "none is fetched",
        images=[{"image_url": "file:///etc/passwd"}],
    ),
    _json_edit("bad base64", "images", VALUE, "not base64", images=[{"image_url": DATA_URL[:-3]}]),
    _json_edit("no picture", "image", _NOT_AN_IMAGE, "", images=[{"image_url": "aGVsbG8="}]),
    _json_edit(
        "image too long", "images", VALUE, "20971520", images=[{"image_url": "A" * 20_971_524}]
    ),
    _json_edit("mask as text", "mask", TYPE, "an object", mask=DATA_URL),
    _json_edit("mask without url", "mask", MISSING, "image_url", mask={}),
    _json_edit("mask's address", "mask", VALUE, "none is fetched", mask={"image_url": "http://a"}),
    _json_edit("n as text", "n", TYPE, "an integer", n="2"),
    _json_edit("unknown field", "nonsense", UNKNOWN, "'nonsense'", nonsense=1),
]


def _picture(name: str, code: str, content: bytes, *, param: str = "image") -> BadInput:
    """An edit whose file `param` is `content`."""
    files = {"image": PICTURE, param: content}
    parts = [part(each, data, filename="upload.png") for each, data in files.items()]
    return _edit(f"{param} {name}", param, code, param, *parts, PROMPT)


_PICTURES = [
    _picture("empty", _DAMAGED, b""),
    _picture("of text", _NOT_AN_IMAGE, b"not a picture at all"),
    _picture("a GIF", _NOT_AN_IMAGE, b"GIF89a" + b"\0" * 64),
    _picture("an SVG", _NOT_AN_IMAGE, b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    _picture("of zeros", _NOT_AN_IMAGE, b"\0" * 5000),
    _picture("a PNG's signature only", _DAMAGED, PICTURE[:8]),
    _picture("cut in its header", _DAMAGED, PICTURE[:20]),
    _picture("cut in its pixels", _DAMAGED, PICTURE[: len(PICTURE) // 2]),
    _picture("a JPEG's signature only", _DAMAGED, b"\xff\xd8\xff\xe0"),
    _picture("a WebP's signature only", _DAMAGED, b"RIFF\x00\x00\x00\x00WEBP"),
    _picture("20000x20000", _TOO_LARGE, png_header(20_000, 20_000)),
    _picture("of 4294967295 pixels a side", _TOO_LARGE, png_header(2**32 - 1, 2**32 - 1)),
    _picture("of no width", _DAMAGED, png_header(0, 100)),
    _picture("of text", _NOT_AN_IMAGE, b"not a picture at all", param="mask"),
    _picture("20000x20000", _TOO_LARGE, png_header(20_000, 20_000), param="mask"),
]

BAD_INPUTS: list[BadInput] = [
    *_TYPES,
    *_VALUES,
    *_FIELDS,
    *_BODIES,
    *_FORMS,
    *_JSON_EDITS,
    *_PICTURES,
]
"""Every case; names are unique within a path."""
