"""What a client may say of a diffusion beside the prompt, by our names and by those of others.

Knows names and types; `resolve.py` knows the limits.
"""

from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from deployments.errors import InvalidRequest
from deployments.ingress.bodies import decode_json
from deployments.ingress.hints import MAX_SHOWN, shown
from deployments.ingress.sizes import wanted_size
from deployments.requests import (
    AdapterWish,
    GenerationParams,
    OutputFormat,
    Priority,
    ResizeMode,
)

StructT = TypeVar("StructT", bound=msgspec.Struct)

ALIASES = {
    "steps": "num_inference_steps",
    "step": "num_inference_steps",
    "cfg_scale": "guidance_scale",
    "true_cfg_scale": "guidance_scale",
    "denoising_strength": "strength",
    "sampler_name": "scheduler",
    "mask_image": "mask",
    "lora": "loras",
    "image_loras": "loras",
}
"""Names that clients of other services send, and what they are called here."""

MAX_LORAS_BYTES = 10_000


class Lora(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An adapter of the model, by either name, and how strongly it acts."""

    name: str | None = None
    path: str | None = None
    """What other services call it."""
    scale: float | None = None


Loras = tuple[Lora, ...] | None
"""What `loras` is decoded as."""

LORA_FIELDS: dict[str, Any] = dict.fromkeys(("loras", "lora", "image_loras"), Loras)
"""Every name of it, for the documents."""


class _Loras(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    loras: Loras = None


_loras_decoder = msgspec.json.Decoder(_Loras)


class DiffusionOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options that every wire format takes. `null` and absent are the same."""

    negative_prompt: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_rescale: float | None = None
    guidance_start: float | None = None
    guidance_end: float | None = None
    scheduler: str | None = None
    seed: int | None = None
    strength: float | None = None
    resize_mode: ResizeMode | None = None
    mask_blur: float | None = None
    width: int | None = None
    height: int | None = None
    prompt_weighting: bool | None = None
    """Whether brackets in both prompts weigh words, as AUTOMATIC1111 has it: `(red:1.2)`."""
    priority: Priority | None = None
    loras: msgspec.Raw = msgspec.Raw(b"null")
    """`Loras`, as JSON also in a form. Decoded apart: of 60 MB it would become gigabytes."""
    # Aliases; `canonical` moves their values to where they belong.
    steps: int | None = None
    step: int | None = None
    cfg_scale: float | None = None
    true_cfg_scale: float | None = None
    denoising_strength: float | None = None
    sampler_name: str | None = None
    lora: msgspec.Raw = msgspec.Raw(b"null")
    image_loras: msgspec.Raw = msgspec.Raw(b"null")


class PictureOptions(DiffusionOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Those of requests that are answered with JSON about pictures."""

    model: str | None = None
    n: int | None = None
    size: str | None = None
    output_format: OutputFormat | None = None
    output_compression: int | None = None
    user: str | None = None
    """Accepted for OpenAI's sake; no picture depends on it."""


def canonical(fields: StructT) -> StructT:
    """The fields with every alias moved to our name for it.

    Raises InvalidRequest when two names of one parameter came with different values.
    """
    moved: dict[str, object] = {}
    came_as: dict[str, str] = {}
    for alias, name in ALIASES.items():
        value = getattr(fields, alias, None)
        if value in _ABSENT:
            continue
        known = moved.get(name, getattr(fields, name))
        if known not in _ABSENT and known != value:
            raise InvalidRequest(
                f"{alias} {_shown(value)} and {came_as.get(name, name)} {_shown(known)} are two "
                "values of the same parameter; send one of them",
                param=alias,
            )
        absent = msgspec.Raw(b"null") if isinstance(value, msgspec.Raw) else None
        moved |= {name: value, alias: absent}
        came_as[name] = alias
    return msgspec.structs.replace(fields, **moved) if moved else fields


def applied(options: DiffusionOptions, params: GenerationParams) -> GenerationParams:
    """The params with what the options, by our names, say; what they leave out stays."""
    given = {name: getattr(options, name) for name in _CANONICAL}
    given["adapters"] = _adapters(options.loras) or None
    return replace(params, **{name: value for name, value in given.items() if value is not None})


def picture_params(options: PictureOptions, params: GenerationParams) -> GenerationParams:
    """The params with what the options say."""
    width, height = wanted_size(options.size, options.width, options.height)
    compression = options.output_compression
    return applied(
        options,
        replace(
            params,
            n=1 if options.n is None else options.n,
            width=width,
            height=height,
            output_format=options.output_format or "png",
            output_compression=100 if compression is None else compression,
        ),
    )


def _adapters(loras: msgspec.Raw) -> tuple[AdapterWish, ...]:
    if memoryview(loras).nbytes > MAX_LORAS_BYTES:
        raise InvalidRequest(
            f"loras is longer than {MAX_LORAS_BYTES} bytes; send fewer of them", param="loras"
        )
    sent = decode_json(b'{"loras":%b}' % bytes(loras), _loras_decoder, what="loras").loras
    return tuple(
        AdapterWish(_name(lora, f"loras[{place}]"), lora.scale)
        for place, lora in enumerate(sent or ())
    )


def _name(lora: Lora, at: str) -> str:
    names = {name for name in (lora.name, lora.path) if name is not None}
    if not names:
        raise InvalidRequest(
            f"{at}.name is missing; it is required",
            param="loras",
            code="missing_required_parameter",
        )
    if len(names) > 1:
        raise InvalidRequest(
            f"{at}: path {shown(lora.path)} and name {shown(lora.name)} are two values of the same "
            "parameter; send one of them",
            param="loras",
        )
    return names.pop()


def _shown(value: object) -> str:
    if not isinstance(value, msgspec.Raw):
        return shown(value)
    start = bytes(memoryview(value)[: MAX_SHOWN + 1]).decode(errors="replace")
    return start if len(start) <= MAX_SHOWN else start[:MAX_SHOWN] + "..."


_ABSENT = (None, msgspec.Raw(b"null"))
_CANONICAL = [
    name for name in DiffusionOptions.__struct_fields__ if name not in (*ALIASES, "loras")
]
