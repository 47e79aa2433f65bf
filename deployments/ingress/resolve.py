"""Settles a wish: every default and every limit, here and once.

Takes what a client asked for and what the model's card allows; gives rows on which nothing is
left open. Knows no wire format: errors name the fields as `GenerationParams` does, except that
width and height are one field, `size`, and adapters are `loras`, as in the API.
"""

import math
import secrets
from dataclasses import replace

from deployments.errors import InvalidRequest
from deployments.imaging.codecs import read_header
from deployments.ingress.adapters import settled_adapters
from deployments.ingress.hints import listed, shown
from deployments.ingress.schedulers import scheduler_named
from deployments.requests import (
    MAX_SEED,
    GenerationParams,
    GenerationRequest,
    ModelCard,
    PrepareSpec,
    Row,
)

MAX_PROMPT_CHARS = 32_000
"""OpenAI's limit."""
MAX_COMPRESSION = 100
MAX_MASK_BLUR = 64
"""Pixels, as in AUTOMATIC1111."""
FAR = 1_000_000
"""Pixels beyond any model's side."""


def resolve(
    params: GenerationParams, card: ModelCard, *, request_id: str, max_megapixels: float
) -> GenerationRequest:
    """The request that `params` asks for, or `InvalidRequest` naming field, value and cure."""
    _check_prompts(params)
    _check_image(params, max_megapixels=max_megapixels)
    num_rows = _within("n", params.n, 1, card.max_images)
    row = _first_row(params, card, max_megapixels=max_megapixels)
    return GenerationRequest(
        rows=tuple(
            replace(row, id=f"{request_id}-{i}", seed=(row.seed + i) % (MAX_SEED + 1))
            for i in range(num_rows)
        ),
        image=params.image,
        mask=params.mask,
        prepare=_prepare(params, card, row.width, row.height),
    )


def _first_row(params: GenerationParams, card: ModelCard, *, max_megapixels: float) -> Row:
    """The first row, still without its id; the others differ from it in seed and id alone."""
    seed = _seed(params.seed)
    steps = _steps(params.num_inference_steps, card)
    guidance_start, guidance_end = _guided_part(params)
    width, height = _size(params, card, max_megapixels=max_megapixels)
    return Row(
        id="",
        model=card.id,
        prompt=params.prompt,
        negative_prompt=params.negative_prompt,
        prompt_weighting=params.prompt_weighting,
        width=width,
        height=height,
        num_inference_steps=steps,
        guidance_scale=_guidance(params.guidance_scale, card),
        guidance_rescale=_fraction("guidance_rescale", params.guidance_rescale),
        guidance_start=guidance_start,
        guidance_end=guidance_end,
        scheduler=_scheduler(params.scheduler, card),
        seed=seed,
        strength=_strength(params, card, steps),
        output_format=params.output_format,
        output_compression=_within(
            "output_compression", params.output_compression, 0, MAX_COMPRESSION
        ),
        priority=params.priority,
        adapters=settled_adapters(params.adapters, card),
    )


def nearest_size(width: float, height: float, card: ModelCard) -> tuple[int, int]:
    """The valid size closest to the wanted one, side by side or among the only ones."""
    # JSON has integers that no float can hold.
    width, height = (min(max(side, -FAR), FAR) for side in (width, height))
    if card.sizes:
        return min(card.sizes, key=lambda size: math.hypot(size[0] - width, size[1] - height))
    multiple = card.size_multiple
    low = math.ceil(card.min_side / multiple) * multiple
    high = card.max_side // multiple * multiple

    def side(pixels: float) -> int:
        return min(max(round(pixels / multiple) * multiple, low), high)

    return side(width), side(height)


def check_prompt(name: str, prompt: str) -> None:
    """Raises InvalidRequest for one that is longer than those read here."""
    if len(prompt) > MAX_PROMPT_CHARS:
        raise InvalidRequest(
            f"{name} has {len(prompt)} characters; send at most {MAX_PROMPT_CHARS}", param=name
        )


def _check_prompts(params: GenerationParams) -> None:
    if not (params.prompt_optional or params.prompt.strip()):
        raise InvalidRequest("prompt is empty; say what the picture should show", param="prompt")
    for name in ("prompt", "negative_prompt"):
        check_prompt(name, getattr(params, name))


def _check_image(params: GenerationParams, *, max_megapixels: float) -> None:
    """Refuses, before any hop, what depends on having an image and headers that cannot be used."""
    if params.image is None:
        if params.mask is not None:
            raise InvalidRequest(
                "mask was sent without an image; send the image it belongs to", param="mask"
            )
        for name in ("strength", "resize_mode"):
            _refuse_without(params, name, "an image")
    if params.mask is None:
        _refuse_without(params, "mask_blur", "a mask")
    else:
        read_header(params.mask, param="mask", max_megapixels=max_megapixels)


def _refuse_without(params: GenerationParams, name: str, what: str) -> None:
    value = getattr(params, name)
    if value is not None:
        raise InvalidRequest(
            f"{name} {value} was sent without {what}; leave it out or send {what}",
            param=name,
        )


def _size(params: GenerationParams, card: ModelCard, *, max_megapixels: float) -> tuple[int, int]:
    header = None
    if params.image is not None:
        header = read_header(params.image, param="image", max_megapixels=max_megapixels)
    if params.width is not None and params.height is not None:
        return _checked_size(params.width, params.height, card)
    if params.width is not None or params.height is not None:
        raise InvalidRequest(
            f"size needs both sides, got width {params.width} and height {params.height}; "
            "give both or neither",
            param="size",
        )
    if header is None:
        return card.default_width, card.default_height
    # The area that the model was made for, in the shape of the image.
    scale = math.sqrt(card.default_width * card.default_height / (header.width * header.height))
    return nearest_size(header.width * scale, header.height * scale, card)


def _checked_size(width: int, height: int, card: ModelCard) -> tuple[int, int]:
    nearest = nearest_size(width, height, card)
    if (width, height) != nearest:
        raise InvalidRequest(
            f"size {shown(width)}x{shown(height)} is not offered by {card.id!r}: "
            f"{_offered_sizes(card)}; the nearest valid size is {nearest[0]}x{nearest[1]}",
            param="size",
        )
    return width, height


def _offered_sizes(card: ModelCard) -> str:
    if card.sizes:
        return f"choose one of {listed(f'{width}x{height}' for width, height in card.sizes)}"
    return (
        f"both sides must be multiples of {card.size_multiple} "
        f"from {card.min_side} to {card.max_side}"
    )


def _steps(steps: int | None, card: ModelCard) -> int:
    if steps is None:
        return card.default_steps
    return _within("num_inference_steps", steps, 1, card.max_steps)


def _guidance(guidance: float | None, card: ModelCard) -> float:
    if guidance is None:
        return card.default_guidance
    # NaN fails this comparison too.
    if not 0 <= guidance <= card.max_guidance:
        raise InvalidRequest(
            f"guidance_scale must be a number from 0 to {card.max_guidance:g}, got {guidance}",
            param="guidance_scale",
        )
    return float(guidance)


def _guided_part(params: GenerationParams) -> tuple[float, float]:
    """From where to where in the run guidance is on."""
    start = _fraction("guidance_start", params.guidance_start)
    end = _fraction("guidance_end", params.guidance_end)
    if start >= end:
        raise InvalidRequest(
            f"guidance_start {start} is not before guidance_end {end}; lower the start or raise "
            "the end, or send guidance_scale 1 for no guidance at all",
            param="guidance_start" if start else "guidance_end",
        )
    return start, end


def _fraction(name: str, value: float) -> float:
    # NaN fails this comparison too.
    if not 0 <= value <= 1:
        raise InvalidRequest(f"{name} must be a number from 0 to 1, got {value}", param=name)
    return float(value)


def _scheduler(scheduler: str | None, card: ModelCard) -> str:
    return card.default_scheduler if scheduler is None else scheduler_named(scheduler, card)


def _seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbelow(MAX_SEED + 1)
    return _within("seed", seed, 0, MAX_SEED)


def _strength(params: GenerationParams, card: ModelCard, steps: int) -> float | None:
    if params.image is None:
        return None
    strength = params.strength
    if strength is None:
        strength = card.default_strength if params.mask is None else 1.0
    if not 0 < strength <= 1:
        raise InvalidRequest(
            f"strength must be above 0 and at most 1, got {strength}", param="strength"
        )
    # diffusers runs the last int(steps * strength) steps.
    if int(steps * strength) < 1:
        raise InvalidRequest(
            f"strength {strength} of num_inference_steps {steps} leaves no step to run; "
            f"raise either until their product is at least 1",
            param="num_inference_steps" if params.strength is None else "strength",
        )
    return float(strength)


def _prepare(
    params: GenerationParams, card: ModelCard, width: int, height: int
) -> PrepareSpec | None:
    if params.image is None:
        return None
    blur = params.mask_blur or 0.0
    # NaN fails this comparison too.
    if not 0 <= blur <= MAX_MASK_BLUR:
        raise InvalidRequest(
            f"mask_blur must be a number from 0 to {MAX_MASK_BLUR}, got {shown(blur)}",
            param="mask_blur",
        )
    return PrepareSpec(
        width=width,
        height=height,
        latent_factor=card.latent_factor,
        mask_polarity=params.mask_polarity,
        mask_blur=float(blur),
        resize_mode=params.resize_mode or "stretch",
    )


def _within(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise InvalidRequest(f"{name} must be from {low} to {high}, got {shown(value)}", param=name)
    return value
