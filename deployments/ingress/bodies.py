"""From the bytes of a request to a typed struct, or to an error that names the field.

Knows structs and encodings; knows no wire format.
"""

import re
from collections.abc import Mapping
from typing import Literal, TypeVar, get_args, get_origin

import msgspec
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from deployments.errors import InvalidRequest, RequestTooLarge
from deployments.ingress.hints import did_you_mean, listed, shown

StructT = TypeVar("StructT", bound=msgspec.Struct)

MAX_JSON_BYTES = 1_000_000
"""Two prompts of 32,000 characters, all escaped, take 768 kB; JSON is decoded on the event loop."""

MAX_PARAM = 200
"""An unknown name longer than this is cut in the answer; none of ours is."""


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """The whole body; stops reading as soon as it is known to be too large."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def require_type(request: Request, wanted: str) -> str:
    """The content-type header as it came; an error if it is another type than the route's."""
    header = request.headers.get("content-type", "")
    if parse_options_header(header)[0] != wanted.encode():
        got = shown(header) if header else "none"
        raise InvalidRequest(
            f"content-type must be {wanted}, got {got}; set that header",
            code="unsupported_content_type",
        )
    return header


def decode_json(body: bytes, decoder: msgspec.json.Decoder[StructT]) -> StructT:
    """A JSON object as the decoder's struct."""
    if not body.strip():
        raise InvalidRequest("the body is empty; send a JSON object", code="invalid_json")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise explained(error, decoder.type) from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"the body is not UTF-8 ({error.reason}); encode the JSON as UTF-8",
            code="invalid_json",
        ) from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(
            f"the body is not valid JSON ({error}); note that NaN and Infinity are not JSON",
            code="invalid_json",
        ) from None


def decode_texts(texts: Mapping[str, str], struct: type[StructT]) -> StructT:
    """Form fields, all of them text, as a struct: `n=2` is a number here."""
    try:
        return msgspec.convert(texts, struct, strict=False)
    except msgspec.ValidationError as error:
        raise explained(error, struct, texts) from None


def explained(
    error: msgspec.ValidationError, struct: type[msgspec.Struct], texts: Mapping[str, str] = {}
) -> InvalidRequest:
    """msgspec's finding in our words: the field, what came and what is wanted."""
    finding = str(error)
    if match := _UNKNOWN.fullmatch(finding):
        return unknown_parameter(match[1], struct)
    if match := _MISSING.fullmatch(finding):
        return InvalidRequest(
            f"{match[1]} is missing; it is required",
            param=match[1],
            code="missing_required_parameter",
        )
    if match := _AT_FIELD.fullmatch(finding):
        return _wrong_value(match["finding"], match["field"], struct, texts)
    return InvalidRequest(f"the body must be a JSON object: {finding}", code="invalid_type")


def unknown_parameter(
    name: str, struct: type[msgspec.Struct], *, files: tuple[str, ...] = ()
) -> InvalidRequest:
    """The error for a field that neither the struct nor `files` has, with what was meant."""
    known = files + struct.__struct_fields__
    meant = _OTHER_NAMES.get(name.lower())
    hint = f" (did you mean {meant!r}?)" if meant in known else did_you_mean(name, known)
    return InvalidRequest(
        f"unknown parameter {shown(name)}{hint}; known here: {listed(known)}",
        param=name[:MAX_PARAM],
        code="unknown_parameter",
    )


_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_AT_FIELD = re.compile(r"(?P<finding>.*) - at `\$\.(?P<field>[^`.\[]*).*`", re.DOTALL)
_BAD_CHOICE = re.compile(r"Invalid enum value '(.*)'", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(?P<wanted>\w+)[^`]*`, got `(?P<got>\w+)`")

_WORDS = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_OTHER_NAMES = {
    "cfg": "guidance_scale",
    "cfg_rescale": "guidance_rescale",
    "cfg_scale": "guidance_scale",
    "denoising_strength": "strength",
    "height": "size",
    "mask_image": "mask",
    "num_images": "n",
    "sampler": "scheduler",
    "sampler_name": "scheduler",
    "step": "num_inference_steps",
    "steps": "num_inference_steps",
    "width": "size",
}
"""What other services call our fields."""


def _wrong_value(
    finding: str, field: str, struct: type[msgspec.Struct], texts: Mapping[str, str]
) -> InvalidRequest:
    if match := _EXPECTED.fullmatch(finding):
        wanted = _WORDS[match["wanted"]]
        got = shown(texts[field]) if field in texts else _WORDS[match["got"]]
        return InvalidRequest(
            f"{field} must be {wanted}, got {got}", param=field, code="invalid_type"
        )
    if match := _BAD_CHOICE.fullmatch(finding):
        choices = _choices(struct, field)
        return InvalidRequest(
            f"{field} {shown(match[1])} is not offered{did_you_mean(match[1], choices)}; "
            f"choose one of {listed(choices)}",
            param=field,
        )
    return InvalidRequest(f"{field}: {finding.lower()}; send a smaller one", param=field)


def _choices(struct: type[msgspec.Struct], field: str) -> list[str]:
    """The words that a `Literal` field takes."""
    hint = next(each.type for each in msgspec.structs.fields(struct) if each.name == field)
    literals = [part for part in get_args(hint) if get_origin(part) is Literal]
    return [word for literal in literals for word in get_args(literal)]


def _too_large(max_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"the body is larger than the {max_bytes / 1e6:g} MB read here; send a smaller image"
    )
