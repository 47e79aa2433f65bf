"""OpenAI's Images API on the wire: what it sends, what it wants back.

Knows field names and shapes. Knows no limits (`resolve.py`) and no status codes (`failures.py`).

`quality` is a preset of steps, a multiple of what the model's card calls its default:

    low 0.5, medium 1 (also auto and standard), high 1.5 (also hd), xhigh 2, max 3

never below one step nor above the card's limit. `num_inference_steps`, if sent, wins.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec

from deployments.errors import InvalidRequest
from deployments.ingress.bodies import decode_json, decode_texts, unknown_parameter
from deployments.ingress.forms import parse_form
from deployments.ingress.hints import shown
from deployments.requests import GenerationParams, ImageResult, ModelCard, OutputFormat, Priority

NumberT = TypeVar("NumberT", int, float)
Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]

_LEVELS = {"auto": "medium", "standard": "medium", "hd": "high"}
_STEPS_OF_LEVEL = {"low": 0.5, "medium": 1.0, "high": 1.5, "xhigh": 2.0, "max": 3.0}
_SIZE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")
_FILES = ("image", "image[]", "mask")


class ImagesFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields that both routes take. `null` and absent are the same."""

    prompt: str
    model: str | None = None
    n: int | None = None
    size: str | None = None
    quality: Quality | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: OutputFormat | None = None
    output_compression: int | None = None
    background: Literal["auto", "opaque", "transparent"] | None = None
    stream: bool | None = None
    partial_images: int | None = None
    negative_prompt: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_rescale: float | None = None
    guidance_start: float | None = None
    guidance_end: float | None = None
    scheduler: str | None = None
    seed: int | None = None
    strength: float | None = None
    priority: Priority | None = None
    # Accepted for OpenAI's sake; no picture depends on them.
    moderation: str | None = None
    user: str | None = None
    safety_identifier: str | None = None


class GenerationFields(ImagesFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON body of POST /v1/images/generations."""

    style: str | None = None


class EditFields(ImagesFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The text fields of POST /v1/images/edits."""

    input_fidelity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesCall:
    """A request as it came: its fields are of the right type, nothing more is known."""

    fields: ImagesFields
    image: bytes | None = None
    mask: bytes | None = None


class ImageData(msgspec.Struct, frozen=True, kw_only=True):
    """One picture of the answer. msgspec writes bytes as base64."""

    b64_json: bytes
    seed: int


class ImagesAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a success."""

    created: int
    data: list[ImageData]
    output_format: str
    size: str
    quality: str
    background: str | None = None
    warnings: list[str] = []


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One model of GET /v1/models."""

    id: str
    created: int
    object: str = "model"
    owned_by: str = "stepwise"


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """The body of GET /v1/models."""

    data: list[ModelEntry]
    object: str = "list"


_generation_decoder = msgspec.json.Decoder(GenerationFields)


def decode_generation(body: bytes) -> ImagesCall:
    """The JSON of /v1/images/generations."""
    fields = decode_json(body, _generation_decoder)
    _refuse_not_offered(fields)
    return ImagesCall(fields=fields)


def decode_edit(body: bytes, content_type: str) -> ImagesCall:
    """The form of /v1/images/edits."""
    form = parse_form(body, content_type)
    for name in form.names():
        if name not in _FILES and name not in EditFields.__struct_fields__:
            raise unknown_parameter(name, EditFields, files=("image", "mask"))
    fields = decode_texts(form.texts(but=_FILES), EditFields)
    _refuse_not_offered(fields)
    image = _one_file(form.files("image", "image[]"), "image")
    if image is None:
        raise InvalidRequest(
            "image is missing; send one PNG, JPEG or WebP file",
            param="image",
            code="missing_required_parameter",
        )
    return ImagesCall(fields=fields, image=image, mask=_one_file(form.files("mask"), "mask"))


def to_params(call: ImagesCall, card: ModelCard) -> GenerationParams:
    """The call in the service's own terms; `quality` needs the card to become steps."""
    fields = call.fields
    width, height = _size(fields.size)
    return GenerationParams(
        prompt=fields.prompt,
        negative_prompt=fields.negative_prompt or "",
        model=card.id,
        n=_or(fields.n, 1),
        width=width,
        height=height,
        num_inference_steps=_or(fields.num_inference_steps, _steps(fields.quality, card)),
        guidance_scale=fields.guidance_scale,
        guidance_rescale=_or(fields.guidance_rescale, 0.0),
        guidance_start=_or(fields.guidance_start, 0.0),
        guidance_end=_or(fields.guidance_end, 1.0),
        scheduler=fields.scheduler,
        seed=fields.seed,
        strength=fields.strength,
        image=call.image,
        mask=call.mask,
        mask_polarity="transparent",
        output_format=fields.output_format or "png",
        output_compression=_or(fields.output_compression, 100),
        priority=fields.priority or "normal",
    )


def encode_images(call: ImagesCall, results: Sequence[ImageResult], *, created: int) -> bytes:
    """The answer to a call whose pictures are done."""
    first = results[0]
    return msgspec.json.encode(
        ImagesAnswer(
            created=created,
            data=[ImageData(b64_json=each.content, seed=each.seed) for each in results],
            output_format=first.output_format,
            size=f"{first.width}x{first.height}",
            quality=_level(call.fields.quality),
            background="opaque",
            warnings=_warnings(call.fields),
        )
    )


def encode_models(cards: Iterable[ModelCard]) -> bytes:
    """The models that can be asked for now."""
    return msgspec.json.encode(
        ModelList(data=[ModelEntry(id=card.id, created=card.created) for card in cards])
    )


def _refuse_not_offered(fields: ImagesFields) -> None:
    """What OpenAI has and this service has not, refused before anything is run."""
    if fields.stream:
        raise InvalidRequest(
            "stream is not offered yet; leave it out or send false", param="stream"
        )
    if fields.partial_images:
        raise InvalidRequest(
            f"partial_images {shown(fields.partial_images)} needs stream, which is not offered "
            "yet; leave it out or send 0",
            param="partial_images",
        )
    if fields.response_format == "url":
        raise InvalidRequest(
            "response_format 'url' is not offered yet; send 'b64_json'", param="response_format"
        )
    if fields.background == "transparent":
        raise InvalidRequest(
            "background 'transparent' is not offered, the models here paint every pixel; "
            "send 'opaque' or 'auto'",
            param="background",
        )


def _one_file(files: list[bytes], name: str) -> bytes | None:
    if len(files) > 1:
        raise InvalidRequest(f"{name}: {len(files)} files were sent; send one", param=name)
    return files[0] if files else None


def _size(size: str | None) -> tuple[int | None, int | None]:
    if size is None or size == "auto":
        return None, None
    match = _SIZE.fullmatch(size)
    if match is None:
        raise InvalidRequest(
            f"size {shown(size)} is not understood; send 'auto' or WIDTHxHEIGHT in pixels, "
            "such as '512x512'",
            param="size",
        )
    return int(match[1]), int(match[2])


def _or(value: NumberT | None, default: NumberT) -> NumberT:
    return default if value is None else value


def _steps(quality: Quality | None, card: ModelCard) -> int:
    steps = round(card.default_steps * _STEPS_OF_LEVEL[_level(quality)])
    return min(max(steps, 1), card.max_steps)


def _level(quality: Quality | None) -> str:
    wanted = quality or "auto"
    return _LEVELS.get(wanted, wanted)


def _warnings(fields: ImagesFields) -> list[str]:
    """What was sent and changed nothing, as far as a client might have hoped otherwise."""
    warnings = []
    if fields.num_inference_steps is not None and fields.quality not in (None, "auto"):
        warnings.append("quality was ignored: num_inference_steps was given")
    if fields.output_compression is not None and fields.output_format in (None, "png"):
        warnings.append("output_compression was ignored: png is lossless")
    if isinstance(fields, GenerationFields) and fields.style is not None:
        warnings.append("style was ignored: say it in the prompt")
    if isinstance(fields, EditFields) and fields.input_fidelity is not None:
        warnings.append("input_fidelity was ignored: use strength")
    return warnings
