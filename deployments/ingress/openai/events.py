"""The events of a stream, as OpenAI's clients read them."""

import time

import msgspec

from deployments.ingress.openai.answers import BACKGROUND, Usage, usage_of, warnings_of
from deployments.ingress.openai.fields import GenerationFields, ImagesCall
from deployments.ingress.openai.params import level
from deployments.ingress.sse import event
from deployments.requests import GenerationRequest, ImageResult, Row


class ImageEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all events of a picture hold. msgspec writes bytes as base64."""

    type: str
    b64_json: bytes
    created_at: int
    size: str
    quality: str
    background: str
    output_format: str


class PartialImage(ImageEvent, frozen=True, kw_only=True):
    """A picture as far as it is."""

    partial_image_index: int
    """From 0, for each picture."""


class Completed(ImageEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A picture that is done."""

    usage: Usage
    """Of this picture: the sum over several counts their input several times."""
    seed: int
    warnings: list[str] = []


def partial_event(call: ImagesCall, row: Row, content: bytes, *, index: int) -> bytes:
    """The event of a preview, in the row's size and format."""
    told = PartialImage(
        type=f"{_kind(call)}.partial_image",
        b64_json=content,
        created_at=int(time.time()),
        size=f"{row.width}x{row.height}",
        quality=level(call.fields.quality),
        background=BACKGROUND,
        output_format=row.output_format,
        partial_image_index=index,
    )
    return event(told.type, msgspec.json.encode(told))


def completed_event(call: ImagesCall, settled: GenerationRequest, result: ImageResult) -> bytes:
    """The event of a picture."""
    told = Completed(
        type=f"{_kind(call)}.completed",
        b64_json=result.content,
        created_at=int(time.time()),
        size=f"{result.width}x{result.height}",
        quality=level(call.fields.quality),
        background=BACKGROUND,
        output_format=result.output_format,
        usage=usage_of(settled, [result]),
        seed=result.seed,
        warnings=warnings_of(call, [result]),
    )
    return event(told.type, msgspec.json.encode(told))


def _kind(call: ImagesCall) -> str:
    return "image_generation" if isinstance(call.fields, GenerationFields) else "image_edit"
