"""Variations that must be refused."""

from tests.bad_inputs.case import (
    BASE,
    IMAGE,
    MISSING,
    MULTIPART,
    NOT_AN_IMAGE,
    PICTURE,
    TYPE,
    UNKNOWN,
    VALUE,
    BadInput,
    form,
    part,
)


def variation(name: str, param: str | None, code: str, says: str, *parts: bytes) -> BadInput:
    """A variation of these parts."""
    return BadInput(
        name=name,
        path="/v1/images/variations",
        content=form(*parts),
        content_type=MULTIPART,
        param=param,
        code=code,
        says=says,
    )


VARIATIONS = [
    variation("form empty", "image", MISSING, "image is missing"),
    variation("a prompt", "prompt", UNKNOWN, "known here", *BASE),
    variation("a mask", "mask", UNKNOWN, "known here", IMAGE, part("mask", PICTURE)),
    variation("a stream", "stream", UNKNOWN, "known here", IMAGE, part("stream", "true")),
    variation("two images", "image", VALUE, "2 files", IMAGE, IMAGE),
    variation("an image of text", "image", NOT_AN_IMAGE, "PNG", part("image", "a")),
    variation("n zero", "n", VALUE, "from 1", IMAGE, part("n", "0")),
    variation("n of words", "n", TYPE, "'two'", IMAGE, part("n", "two")),
    variation("size odd", "size", VALUE, "nearest", IMAGE, part("size", "513x513")),
    variation("a quality", "quality", VALUE, "choose one of", IMAGE, part("quality", "best")),
]
