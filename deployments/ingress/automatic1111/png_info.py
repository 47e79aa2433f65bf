"""POST png-info: what a picture's file says of how it was made."""

import msgspec

from deployments.imaging.codecs import read_header
from deployments.imaging.metadata import parameters_of
from deployments.ingress.bodies import decode_json
from deployments.ingress.inline import inline_file
from deployments.ingress.metadata import parsed


class PngInfoFields(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON body: a PNG, JPEG or WebP file, as base64 or as a data URL."""

    image: str


class PngInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The body of the answer; empty for a file that says nothing."""

    info: str
    items: dict[str, str]
    parameters: dict[str, str]


_decoder = msgspec.json.Decoder(PngInfoFields)


def read_png_info(body: bytes, *, max_megapixels: float) -> bytes:
    """The answer to a body. Takes milliseconds for large pictures."""
    content = inline_file(decode_json(body, _decoder).image, param="image")
    read_header(content, param="image", max_megapixels=max_megapixels)
    text = parameters_of(content)
    if text is None:
        return msgspec.json.encode(PngInfo(info="", items={}, parameters={}))
    return msgspec.json.encode(
        PngInfo(info=text, items={"parameters": text}, parameters=parsed(text))
    )
