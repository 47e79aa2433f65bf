"""One route as its documents tell of it. Knows types of the wire formats, and nothing of OpenAPI.

Nothing here decides what a route does: the structs named here are those that it decodes and
encodes, and tests compare the rest with what it answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Literal, get_args

import msgspec

from deployments.ingress.failures import ErrorBody

JSON = "application/json"
FORM = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
EVENTS = "text/event-stream"
PICTURES = ("image/png", "image/jpeg", "image/webp")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A part of a form that is a file."""

    name: str
    says: str
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One kind of body that a route reads."""

    media_types: tuple[str, ...] = (JSON,)
    type: Any = None
    """What it is decoded as; None for a body that is a file itself."""
    texts: Mapping[str, Any] = field(default_factory=dict)
    """The parts of a form that are JSON texts, and what each is decoded as."""
    files: tuple[File, ...] = ()
    """The parts of a form that are files."""
    example: Any = None
    """All but the files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One kind of answer that a route gives when all is well."""

    says: str
    status: int = 200
    media_types: tuple[str, ...] = (JSON,)
    type: Any = None
    """What is encoded; None where nothing is, as in a file or a page."""
    events: Mapping[str, Any] = field(default_factory=dict)
    """Names of the events of a stream, and what is encoded in the data of each."""
    example: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A variable part of the address, or a header."""

    name: str
    says: str
    place: Literal["path", "query", "header"] = "path"
    required: bool = True
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    group: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    says: str
    """What it does, in a line."""
    notes: str = ""
    """What else a client has to know."""
    parameters: tuple[Parameter, ...] = ()
    bodies: tuple[Body, ...] = ()
    answers: tuple[Answer, ...]
    refusals: tuple[int, ...] = ()
    """The statuses of its errors, but for those of what stands around all routes."""
    refusal: type = ErrorBody
    """What these errors are encoded as."""
    keyless: bool = False
    """Whether it never asks for an API key."""


def opened(struct: type[msgspec.Struct], **fields: Any) -> type[msgspec.Struct]:
    """The struct with these fields as what they are checked or decoded as after it.

    Those that cannot be None are required.
    """
    return msgspec.defstruct(
        struct.__name__,
        [
            (name, type_, None) if NoneType in get_args(type_) else (name, type_)
            for name, type_ in fields.items()
        ],
        bases=(struct,),
        namespace={"__doc__": struct.__doc__},
        module=struct.__module__,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=struct.__struct_config__.forbid_unknown_fields,
    )
