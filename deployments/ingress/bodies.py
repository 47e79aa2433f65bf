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


def require_type(request: Request, *wanted: str) -> str:
    """The content-type header as it came; an error if it is none of the route's types."""
    header = request.headers.get("content-type", "")
    if parse_options_header(header)[0].decode("latin-1") not in wanted:
        got = shown(header) if header else "none"
        raise InvalidRequest(
            f"content-type must be {' or '.join(wanted)}, got {got}; set that header",
            code="unsupported_content_type",
        )
    return header


def decode_json(
    body: bytes, decoder: msgspec.json.Decoder[StructT], *, what: str = "the body"
) -> StructT:
    """A JSON object as the decoder's struct; `what` it is, for the errors."""
    if not body.strip():
        raise InvalidRequest(f"{what} is empty; send a JSON object", code="invalid_json")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise explained(error, decoder.type, what=what) from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{what} is not UTF-8 ({error.reason}); encode the JSON as UTF-8",
            code="invalid_json",
        ) from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(
            f"{what} is not valid JSON ({error}); note that NaN and Infinity are not JSON",
            code="invalid_json",
        ) from None
    except RecursionError:
        raise InvalidRequest(
            f"{what} is nested too deeply; no field here takes more than two levels",
            code="invalid_json",
        ) from None


def decode_nested(
    raw: msgspec.Raw, decoder: msgspec.json.Decoder[StructT], *, param: str
) -> StructT:
    """An object inside a body, decoded by itself: errors name its own fields. Null is empty."""
    content = bytes(raw)
    if content == b"null":
        content = b"{}"
    if not content.startswith(b"{"):
        raise InvalidRequest(
            f"{param} must be an object, got {shown(content.decode(errors='replace'))}",
            param=param,
            code="invalid_type",
        )
    return decode_json(content, decoder, what=param)


def decode_texts(texts: Mapping[str, str], struct: type[StructT]) -> StructT:
    """Form fields, all of them text, as a struct: `n=2` is a number here, and what the struct
    keeps as JSON is JSON."""
    raw = [each.name for each in msgspec.structs.fields(struct) if each.type is msgspec.Raw]
    kept = {name: msgspec.Raw(texts[name].encode()) for name in raw if name in texts}
    try:
        plain = {name: text for name, text in texts.items() if name not in kept}
        return msgspec.structs.replace(msgspec.convert(plain, struct, strict=False), **kept)
    except msgspec.ValidationError as error:
        raise explained(error, struct, texts) from None


def explained(
    error: msgspec.ValidationError,
    struct: type[msgspec.Struct],
    texts: Mapping[str, str] = {},
    *,
    what: str = "the body",
) -> InvalidRequest:
    """msgspec's finding in our words: the field, what came and what is wanted."""
    finding = str(error)
    match = _AT_FIELD.fullmatch(finding)
    # The name of an unknown field is the client's, and may look like a path.
    if match and match["field"] in struct.__struct_fields__:
        return _wrong_value(match, struct, texts)
    if match := _UNKNOWN.fullmatch(finding):
        return unknown_parameter(match[1], struct)
    if match := _MISSING.fullmatch(finding):
        return InvalidRequest(
            f"{match[1]} is missing; it is required",
            param=match[1],
            code="missing_required_parameter",
        )
    return InvalidRequest(f"{what} must be a JSON object: {finding}", code="invalid_type")


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
_AT_FIELD = re.compile(r"(?P<finding>.*) - at `\$\.(?P<at>(?P<field>[^`.\[]*).*)`", re.DOTALL)
_BAD_CHOICE = re.compile(r"Invalid enum value '(.*)'", re.DOTALL)
_LENGTH = re.compile(r"Expected `array` of length ([0-9]+)")
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
    "num_images": "n",
    "sampler": "scheduler",
}
"""What other services call our fields; `options.py` has the names that are taken as well."""


def _wrong_value(
    found: re.Match[str], struct: type[msgspec.Struct], texts: Mapping[str, str]
) -> InvalidRequest:
    finding, field, at = found["finding"], found["field"], found["at"]
    if match := _LENGTH.fullmatch(finding):
        return InvalidRequest(
            f"{field} must have exactly {match[1]} entry here; send one", param=field
        )
    if match := _EXPECTED.fullmatch(finding):
        wanted = _WORDS[match["wanted"]]
        got = shown(texts[field]) if field in texts else _WORDS[match["got"]]
        return InvalidRequest(f"{at} must be {wanted}, got {got}", param=field, code="invalid_type")
    if match := _MISSING.fullmatch(finding):
        return InvalidRequest(
            f"{at}: {match[1]} is missing; it is required",
            param=field,
            code="missing_required_parameter",
        )
    if match := _UNKNOWN.fullmatch(finding):
        return InvalidRequest(
            f"{at}: unknown parameter {shown(match[1])}; leave it out",
            param=field,
            code="unknown_parameter",
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
