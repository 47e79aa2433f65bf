"""Edits whose pictures are wrong, in a form or in JSON."""

from typing import Any

from tests.bad_inputs.case import (
    DAMAGED,
    DATA_URL,
    JSON,
    MISSING,
    NOT_AN_IMAGE,
    PICTURE,
    PROMPT,
    TOO_LARGE,
    TYPE,
    UNKNOWN,
    VALUE,
    BadInput,
    edit,
    encoded,
    part,
    png_header,
)


def json_edit(name: str, param: str, code: str, says: str, **fields: Any) -> BadInput:
    """An edit whose JSON is well formed but for `fields`."""
    body = {"prompt": "a red house", "images": [{"image_url": DATA_URL}], **fields}
    return edit(f"JSON: {name}", param, code, says, content=encoded(body), content_type=JSON)


JSON_EDITS = [
    json_edit("no images", "images", MISSING, "image_url", images=None),
    json_edit("images empty", "images", VALUE, "exactly 1 entry", images=[]),
    json_edit("images as text", "images", TYPE, "an array", images=DATA_URL),
    json_edit("an image as text", "images", TYPE, "an object", images=[DATA_URL]),
    json_edit(
        "two images", "images", VALUE, "exactly 1 entry", images=[{"image_url": DATA_URL}] * 2
    ),
    json_edit("an empty reference", "images", MISSING, "image_url", images=[{}]),
    json_edit("a null reference", "images", TYPE, "got null", images=[None]),
    json_edit("misspelt url", "images", UNKNOWN, "'image_ulr'", images=[{"image_ulr": "a"}]),
    json_edit("a number", "images", TYPE, ".image_url must be a str", images=[{"image_url": 7}]),
    json_edit("a file id", "images", VALUE, "file_id", images=[{"file_id": "file-1"}]),
    json_edit(
        "an address",
        "images",
        VALUE,
        "none is fetched",
        images=[{"image_url": "https://a.b/c.png"}],
    ),
    json_edit(
        "an address of a file",
        "images",
        VALUE,
        "none is fetched",
        images=[{"image_url": "file:///etc/passwd"}],
    ),
    json_edit("bad base64", "images", VALUE, "not base64", images=[{"image_url": DATA_URL[:-3]}]),
    json_edit("no picture", "image", NOT_AN_IMAGE, "", images=[{"image_url": "aGVsbG8="}]),
    json_edit(
        "image too long", "images", VALUE, "20971520", images=[{"image_url": "A" * 20_971_524}]
    ),
    json_edit("mask as text", "mask", TYPE, "an object", mask=DATA_URL),
    json_edit("mask without url", "mask", MISSING, "image_url", mask={}),
    json_edit("mask's address", "mask", VALUE, "none is fetched", mask={"image_url": "http://a"}),
    json_edit("n as text", "n", TYPE, "an integer", n="2"),
    json_edit("unknown field", "nonsense", UNKNOWN, "'nonsense'", nonsense=1),
]


def picture(name: str, code: str, content: bytes, *, param: str = "image") -> BadInput:
    """An edit whose file `param` is `content`."""
    files = {"image": PICTURE, param: content}
    parts = [part(each, data, filename="upload.png") for each, data in files.items()]
    return edit(f"{param} {name}", param, code, param, *parts, PROMPT)


PICTURES = [
    picture("empty", DAMAGED, b""),
    picture("of text", NOT_AN_IMAGE, b"not a picture at all"),
    picture("a GIF", NOT_AN_IMAGE, b"GIF89a" + b"\0" * 64),
    picture("an SVG", NOT_AN_IMAGE, b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    picture("of zeros", NOT_AN_IMAGE, b"\0" * 5000),
    picture("a PNG's signature only", DAMAGED, PICTURE[:8]),
    picture("cut in its header", DAMAGED, PICTURE[:20]),
    picture("cut in its pixels", DAMAGED, PICTURE[: len(PICTURE) // 2]),
    picture("a JPEG's signature only", DAMAGED, b"\xff\xd8\xff\xe0"),
    picture("a WebP's signature only", DAMAGED, b"RIFF\x00\x00\x00\x00WEBP"),
    picture("20000x20000", TOO_LARGE, png_header(20_000, 20_000)),
    picture("of 4294967295 pixels a side", TOO_LARGE, png_header(2**32 - 1, 2**32 - 1)),
    picture("of no width", DAMAGED, png_header(0, 100)),
    picture("of text", NOT_AN_IMAGE, b"not a picture at all", param="mask"),
    picture("20000x20000", TOO_LARGE, png_header(20_000, 20_000), param="mask"),
]
