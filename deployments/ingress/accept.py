"""Whether a client wants the picture itself, and not JSON about it: its `Accept` header."""

from dataclasses import replace
from typing import cast, get_args

from deployments.errors import InvalidRequest
from deployments.requests import GenerationParams, OutputFormat

_ANY = "image/*"
_FORMATS = {f"image/{name}": cast(OutputFormat, name) for name in get_args(OutputFormat)}


def wants_picture(accept: str) -> bool:
    """True for a header that names an image type that is made here, and no JSON."""
    types = _types(accept)
    return "application/json" not in types and any(t == _ANY or t in _FORMATS for t in types)


def as_picture(
    params: GenerationParams, accept: str, asked: OutputFormat | None
) -> GenerationParams:
    """The params of a request whose answer is one picture in the format that `accept` names.

    `asked` is the body's own output_format. Raises InvalidRequest for several pictures, or when
    the header and the body want different formats.
    """
    if params.n != 1:
        raise InvalidRequest(
            f"n is {params.n}, and Accept: {accept} has room for one picture; "
            "send n=1 or Accept: application/json",
            param="n",
        )
    types = _types(accept)
    named = [_FORMATS[each] for each in types if each in _FORMATS]
    if asked is None:
        return replace(params, output_format=named[0] if named else params.output_format)
    if _ANY not in types and asked not in named:
        raise InvalidRequest(
            f"output_format is {asked!r} and Accept is {accept}; let them agree, or send one",
            param="output_format",
        )
    return params


def _types(accept: str) -> list[str]:
    return [part.partition(";")[0].strip().lower() for part in accept.split(",")]
