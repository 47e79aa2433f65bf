"""Edits whose forms are wrong: their parts, or how they are written."""

from tests.bad_inputs.case import (
    BAD_FORM,
    BAD_JSON,
    BASE,
    BOUNDARY,
    GOOD,
    IMAGE,
    JSON,
    MISSING,
    MULTIPART,
    PICTURE,
    PROMPT,
    TYPE,
    UNKNOWN,
    VALUE,
    WRONG_KIND,
    BadInput,
    edit,
    form,
    part,
)

NAMELESS = GOOD.replace(b'name="prompt"', b"x=1")
HEADLESS = GOOD.replace(b"Content-", b"\r\n")

FORMS = [
    edit("form empty", "prompt", MISSING, "required"),
    edit("no image", "image", MISSING, "image is missing", PROMPT),
    edit("no prompt", "prompt", MISSING, "required", IMAGE),
    edit("mask only", "image", MISSING, "image", PROMPT, part("mask", PICTURE, filename="m")),
    edit("n of words", "n", TYPE, "'two'", *BASE, part("n", "two")),
    edit("n empty", "n", TYPE, "''", *BASE, part("n", "")),
    edit("n fractional", "n", TYPE, "'1.5'", *BASE, part("n", "1.5")),
    edit("n huge", "n", VALUE, "999", *BASE, part("n", "9" * 30)),
    edit("n twice", "n", VALUE, "2 times", *BASE, part("n", "1"), part("n", "1")),
    edit("prompt twice", "prompt", VALUE, "2 times", *BASE, PROMPT),
    edit("prompt blank", "prompt", VALUE, "empty", IMAGE, part("prompt", " ")),
    edit("strength zero", "strength", VALUE, "0.0", *BASE, part("strength", "0")),
    edit("strength above 1", "strength", VALUE, "1.5", *BASE, part("strength", "1.5")),
    edit(
        "resize mode", "resize_mode", VALUE, "stretch, crop, pad", *BASE, part("resize_mode", "fit")
    ),
    edit("blur without mask", "mask_blur", VALUE, "a mask", *BASE, part("mask_blur", "4")),
    edit("strength NaN", "strength", VALUE, "nan", *BASE, part("strength", "nan")),
    edit("guidance NaN", "guidance_scale", VALUE, "nan", *BASE, part("guidance_scale", "NaN")),
    edit(
        "guidance infinite",
        "guidance_scale",
        VALUE,
        "inf",
        IMAGE,
        PROMPT,
        part("guidance_scale", "inf"),
    ),
    edit("rescale NaN", "guidance_rescale", VALUE, "nan", *BASE, part("guidance_rescale", "nan")),
    edit("guidance end", "guidance_end", VALUE, "2.0", *BASE, part("guidance_end", "2")),
    edit("guidance end of words", "guidance_end", TYPE, "'x'", *BASE, part("guidance_end", "x")),
    edit("priority unknown", "priority", VALUE, "normal", *BASE, part("priority", "1")),
    edit("seed negative", "seed", VALUE, "-7", *BASE, part("seed", "-7")),
    edit("size not a multiple", "size", VALUE, "nearest", *BASE, part("size", "129x127")),
    edit("scheduler unknown", "scheduler", VALUE, "choose", *BASE, part("scheduler", "x")),
    edit("stream of words", "stream", TYPE, "'yes please'", *BASE, part("stream", "yes please")),
    edit(
        "partials unstreamed", "partial_images", VALUE, "true", *BASE, part("partial_images", "1")
    ),
    edit(
        "a stream of addresses",
        "response_format",
        VALUE,
        "b64",
        *BASE,
        part("stream", "true"),
        part("response_format", "url"),
    ),
    edit("unknown field", "nonsense", UNKNOWN, "'nonsense'", *BASE, part("nonsense", "1")),
    edit("steps by two names", "step", VALUE, "same", *BASE, part("steps", "9"), part("step", "8")),
    edit("an adapter", None, "invalid_json", "loras is not", *BASE, part("lora", "x")),
    edit(
        "an unknown adapter", "loras", VALUE, "not offered", *BASE, part("loras", '[{"name":"x"}]')
    ),
    edit("adapters as words", None, "invalid_json", "loras is not", *BASE, part("loras", "ink")),
    edit(
        "unknown file",
        "photo",
        UNKNOWN,
        "'photo'",
        PROMPT,
        part("photo", PICTURE),
    ),
    edit("mask_image", "mask", "unsupported_image_format", "6d", *BASE, part("mask_image", "m")),
    edit("two images", "image", VALUE, "2 files", IMAGE, *BASE),
    edit(
        "two images[]",
        "image",
        VALUE,
        "2 files",
        *[part("image[]", PICTURE, filename="a")] * 2,
        PROMPT,
    ),
    edit("two masks", "mask", VALUE, "2 files", *BASE, *[part("mask", PICTURE)] * 2),
    edit("prompt not UTF-8", "prompt", VALUE, "UTF-8", IMAGE, part("prompt", b"\xff\xfe")),
    edit("JSON that is none", None, BAD_JSON, "JSON", content=GOOD, content_type=JSON),
    edit("no content type", None, WRONG_KIND, "multipart", content=GOOD, content_type=None),
    edit(
        "no boundary", None, BAD_FORM, "boundary", content=GOOD, content_type="multipart/form-data"
    ),
    edit(
        "another boundary",
        None,
        BAD_FORM,
        "malformed",
        content=GOOD,
        content_type="multipart/form-data; boundary=x",
    ),
    edit(
        "boundary too long",
        None,
        BAD_FORM,
        "oundary",
        content=GOOD,
        content_type="multipart/form-data; boundary=" + "x" * 300,
    ),
    edit("body empty", None, BAD_FORM, "closing boundary", content=b""),
    edit("body not a form", None, BAD_FORM, "malformed", content=b"a red house"),
    edit("body cut short", None, BAD_FORM, "closing boundary", content=GOOD[:-9]),
    edit("body cut in the image", None, BAD_FORM, "closing boundary", content=GOOD[:300]),
    edit(
        "part without a name",
        None,
        BAD_FORM,
        "no name",
        content=NAMELESS,
    ),
    edit(
        "part without headers",
        None,
        BAD_FORM,
        "malformed",
        content=HEADLESS,
    ),
    edit("too many parts", None, BAD_FORM, "64", *[part(f"f{i}", "x") for i in range(100)]),
    edit("header too long", None, BAD_FORM, "malformed", part("x" * 100_000, "1")),
]


def headed(name: str, code: str, says: str, head: bytes, *, param: str | None = None) -> BadInput:
    """An edit with one more part, which has this head."""
    more = f"--{BOUNDARY}\r\n".encode() + head + b"\r\n\r\n1\r\n"
    return edit(name, param, code, says, content=more + GOOD)


DISPOSITION = b"Content-Disposition: form-data; "

HEADS = [
    headed("no disposition", BAD_FORM, "no name", b"Content-Type: text/plain"),
    headed("a disposition of nothing", BAD_FORM, "no name", b"Content-Disposition:"),
    headed("a disposition without name", BAD_FORM, "no name", DISPOSITION + b'filename="n"'),
    headed("a name of nothing", UNKNOWN, "''", DISPOSITION + b'name=""', param=""),
    headed("a name of bytes", UNKNOWN, "", DISPOSITION + b'name="\xff"', param="\ufffd"),
    headed("a name with a zero", UNKNOWN, "x00", DISPOSITION + b'name="n\x00"', param="n\x00"),
    headed(
        "a name in capitals", UNKNOWN, "did you mean 'n'?", DISPOSITION + b'name="N"', param="N"
    ),
    headed("a header of no colon", BAD_FORM, "malformed", b"Content-Disposition"),
    headed("a header of no name", BAD_FORM, "malformed", b": form-data"),
    headed("a header with a blank", BAD_FORM, "malformed", b"Content Disposition: form-data"),
    headed("a header of bytes", BAD_FORM, "malformed", b"\xff\xfe: form-data"),
    headed("a long header", BAD_FORM, "malformed", b"X: " + b"x" * 100_000),
    headed("many headers", BAD_FORM, "malformed", b"\r\n".join([b"X: x"] * 10_000)),
]

WRITTEN = [
    edit("lines that end in LF", None, BAD_FORM, "", content=GOOD.replace(b"\r\n", b"\n")),
    edit("lines that end in CR", None, BAD_FORM, "", content=GOOD.replace(b"\r\n", b"\r")),
    edit("the closing boundary alone", "prompt", MISSING, "required", content=form()),
    edit("text before the form", None, BAD_FORM, "malformed", content=b"hello" + GOOD),
    edit("boundaries alone", None, BAD_FORM, "", content=f"--{BOUNDARY}\r\n".encode() * 1_000),
    edit("dashes alone", None, BAD_FORM, "malformed", content=b"-" * 100_000),
    *(
        edit(f"typed {kind[:50]!r}", None, code, "", content=GOOD, content_type=kind)
        for kind, code in (
            ("multipart/form-data; boundary=", BAD_FORM),
            ('multipart/form-data; boundary=""', BAD_FORM),
            ("multipart/form-data; boundary", BAD_FORM),
            ("multipart/form-data; border=x", BAD_FORM),
            ('multipart/form-data; boundary="a', BAD_FORM),
            (MULTIPART.replace("form-data", "mixed"), WRONG_KIND),
            (MULTIPART.replace("form-data", "related"), WRONG_KIND),
            ("application/x-www-form-urlencoded", WRONG_KIND),
        )
    ),
]
