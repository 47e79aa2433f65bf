"""What OpenAI's clients get back: pictures, models, and how much it took.

Nothing here counts tokens as OpenAI does, since nothing here is made of them. `usage` counts words
and patches: a text token is a word between blanks of prompt or negative prompt; an image token is a
patch of 16x16 px, at the size of the picture made, of the image and of the mask that came with the
request (input), or of a picture made (output).
"""

from collections.abc import Iterable, Sequence

import msgspec

from deployments.ingress.openai.fields import (
    EditFields,
    GenerationFields,
    ImagesCall,
    SharedFields,
)
from deployments.ingress.openai.params import level
from deployments.requests import GenerationRequest, ImageResult, ModelCard

PATCH_PX = 16
BACKGROUND = "opaque"
"""No model here leaves a pixel out."""


class InputTokens(msgspec.Struct, frozen=True, kw_only=True):
    """What `input_tokens` is made of."""

    text_tokens: int
    image_tokens: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """How much a request took."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    total_tokens: int


class ImageData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One picture of the answer, in itself or by its address. msgspec writes bytes as base64."""

    b64_json: bytes | None = None
    url: str | None = None
    seed: int


class ImagesAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a success."""

    created: int
    data: list[ImageData]
    background: str
    output_format: str
    quality: str
    size: str
    usage: Usage
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


def encode_images(
    call: ImagesCall,
    settled: GenerationRequest,
    results: Sequence[ImageResult],
    *,
    created: int,
    urls: Sequence[str] | None,
) -> bytes:
    """The answer to a call whose pictures are done: these, or their addresses."""
    first = results[0]
    if urls is None:
        data = [ImageData(b64_json=each.content, seed=each.seed) for each in results]
    else:
        pairs = zip(results, urls, strict=True)
        data = [ImageData(url=url, seed=each.seed) for each, url in pairs]
    return msgspec.json.encode(
        ImagesAnswer(
            created=created,
            data=data,
            background=BACKGROUND,
            output_format=first.output_format,
            quality=level(call.fields.quality),
            size=f"{first.width}x{first.height}",
            usage=usage_of(settled, results),
            warnings=warnings_of(call, results),
        )
    )


def encode_models(cards: Iterable[ModelCard]) -> bytes:
    """The models that can be asked for now."""
    return msgspec.json.encode(ModelList(data=[_entry(card) for card in cards]))


def encode_model(card: ModelCard) -> bytes:
    """One of them."""
    return msgspec.json.encode(_entry(card))


def usage_of(settled: GenerationRequest, results: Sequence[ImageResult]) -> Usage:
    """What these pictures of a request took; the input is counted once."""
    row = settled.rows[0]
    num_images = sum(content is not None for content in (settled.image, settled.mask))
    details = InputTokens(
        text_tokens=len(row.prompt.split()) + len(row.negative_prompt.split()),
        image_tokens=num_images * _patches(row.width, row.height),
    )
    input_tokens = details.text_tokens + details.image_tokens
    output_tokens = sum(_patches(each.width, each.height) for each in results)
    return Usage(
        input_tokens=input_tokens,
        input_tokens_details=details,
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
    )


def warnings_of(call: ImagesCall, results: Sequence[ImageResult]) -> list[str]:
    """What was not followed to the letter, each once."""
    of_rows = (warning for each in results for warning in each.warnings)
    return list(dict.fromkeys([*_ignored(call.fields), *of_rows]))


def _ignored(fields: SharedFields) -> list[str]:
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


def _entry(card: ModelCard) -> ModelEntry:
    return ModelEntry(id=card.id, created=card.created)


def _patches(width: int, height: int) -> int:
    # Rounded up: a picture has at least one.
    return -(-width // PATCH_PX) * -(-height // PATCH_PX)
