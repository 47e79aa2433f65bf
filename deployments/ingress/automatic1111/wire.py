"""The bodies of txt2img and img2img: what clients send, and what of it is meant here.

Clients send about fifty fields every time, most of them at values that change nothing. Unknown
fields are ignored, as the web UI does. A known field that asks for what is not offered is refused
if the picture would be another one (`_refuse_not_offered`), else ignored and told (`ignored`).
"""

import secrets
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import msgspec

from deployments.errors import InvalidRequest
from deployments.ingress.automatic1111.loras import read_loras
from deployments.ingress.bodies import decode_json
from deployments.ingress.hints import MAX_SHOWN, listed, shown
from deployments.ingress.inline import inline_file
from deployments.ingress.resolve import check_prompt, nearest_size
from deployments.requests import GenerationParams, ModelCard, ResizeMode

ValueT = TypeVar("ValueT", int, float)

DEFAULT_STEPS, DEFAULT_CFG, DEFAULT_SIDE = 50, 7.0, 512
DEFAULT_STRENGTH = 0.75
OWN_SPACINGS = ("automatic", "normal", "uniform")
"""What clients call the spacing that a sampler has by itself."""
DEFAULT_SAMPLER = "Euler"
"""Of a scheduler that comes without a sampler; without both the model's default is taken."""
MAX_RANDOM_SEED = 2**32 - 1
"""As the web UI draws them: JavaScript clients hold no integer above 2**53."""
DEFAULT_MASK_BLUR = 4
RESIZE_MODES: dict[int, ResizeMode] = {0: "stretch", 1: "crop", 2: "pad"}
MODEL_SETTING = "sd_model_checkpoint"
MAX_OVERRIDES_BYTES = 100_000


class TextFields(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON body of POST txt2img. `null` and absent are the same."""

    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    width: int | None = None
    height: int | None = None
    batch_size: int | None = None
    n_iter: int | None = None
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    denoising_strength: float | None = None
    override_settings: msgspec.Raw = msgspec.Raw(b"null")
    """An object; see `overrides`."""
    send_images: bool | None = None
    # Refused unless they change nothing.
    enable_hr: bool | None = None
    restore_faces: bool | None = None
    tiling: bool | None = None
    subseed_strength: float | None = None
    seed_resize_from_w: int | None = None
    seed_resize_from_h: int | None = None
    script_name: str | None = None
    alwayson_scripts: msgspec.Raw = msgspec.Raw(b"null")
    # Ignored, with a warning where they would do something.
    styles: list[str] | None = None
    save_images: bool | None = None
    clip_skip: int | None = None
    eta: float | None = None
    s_churn: float | None = None
    s_tmin: float | None = None
    s_tmax: float | None = None
    s_noise: float | None = None


class ImageFields(TextFields, frozen=True, kw_only=True):
    """The JSON body of POST img2img; pictures are base64 or data URLs."""

    init_images: tuple[str] | None = None
    mask: str | None = None
    inpainting_mask_invert: int | None = None
    resize_mode: int | None = None
    mask_blur: int | None = None
    include_init_images: bool | None = None
    # Ignored, with a warning where they would do something.
    initial_noise_multiplier: float | None = None
    inpainting_fill: int | None = None
    inpaint_full_res: bool | None = None


class Img2Img(NamedTuple):
    """The body of img2img with its files decoded."""

    fields: ImageFields
    image: bytes
    mask: bytes | None


_text_decoder = msgspec.json.Decoder(TextFields)
_image_decoder = msgspec.json.Decoder(ImageFields)


def decode_text(body: bytes) -> TextFields:
    """The body of txt2img, asking for nothing that is not offered."""
    fields = decode_json(body, _text_decoder)
    _refuse_not_offered(fields)
    return fields


def decode_image(body: bytes) -> Img2Img:
    """The body of img2img. Takes milliseconds for large pictures."""
    fields = decode_json(body, _image_decoder)
    _refuse_not_offered(fields)
    if _or(fields.resize_mode, 0) not in RESIZE_MODES:
        raise InvalidRequest(
            f"resize_mode {shown(fields.resize_mode)} is not offered; send 0 to stretch the image, "
            "1 to crop it or 2 to repeat its edge",
            param="resize_mode",
        )
    if fields.init_images is None:
        raise InvalidRequest("init_images is missing; send one picture", param="init_images")
    mask = inline_file(fields.mask, param="mask") if fields.mask else None
    return Img2Img(fields, inline_file(fields.init_images[0], param="init_images"), mask)


def overrides(fields: TextFields) -> dict[str, Any]:
    """`override_settings`. Decoded apart, since as a part of 60 MB it could become gigabytes."""
    if len(bytes(fields.override_settings)) > MAX_OVERRIDES_BYTES:
        raise InvalidRequest(
            f"override_settings is longer than {MAX_OVERRIDES_BYTES} bytes; send fewer of them",
            param="override_settings",
        )
    found: object = msgspec.json.decode(fields.override_settings)
    if not isinstance(found, dict | None):
        raise InvalidRequest(
            f"override_settings must be an object, got {shown(found)}",
            param="override_settings",
            code="invalid_type",
        )
    return found or {}


def model_of(fields: TextFields) -> str | None:
    """The model that the body names; None for the default one."""
    model = overrides(fields).get(MODEL_SETTING)
    if model is not None and not isinstance(model, str):
        raise InvalidRequest(
            f"override_settings.{MODEL_SETTING} must be a string, got {shown(model)}",
            param="override_settings",
            code="invalid_type",
        )
    return model or None


def to_params(fields: TextFields, card: ModelCard) -> GenerationParams:
    """The body of txt2img in the service's own terms."""
    width, height = _size(fields, card)
    raw = fields.prompt or ""
    check_prompt("prompt", raw)  # before it is searched for tags
    prompt, adapters = read_loras(raw)
    return GenerationParams(
        prompt=prompt,
        adapters=adapters,
        negative_prompt=fields.negative_prompt or "",
        prompt_weighting=True,
        prompt_optional=True,
        model=card.id,
        n=_num_images(fields, card),
        width=width,
        height=height,
        num_inference_steps=_or(fields.steps, min(DEFAULT_STEPS, card.max_steps)),
        guidance_scale=_or(fields.cfg_scale, min(DEFAULT_CFG, card.max_guidance)),
        scheduler=_scheduler(fields),
        seed=_seed(fields.seed),
    )


def to_image_params(call: Img2Img, card: ModelCard) -> GenerationParams:
    """The body of img2img in the service's own terms."""
    fields = call.fields
    return replace(
        to_params(fields, card),
        image=call.image,
        mask=call.mask,
        # White is painted, unless the client wants it the other way round.
        mask_polarity="black" if fields.inpainting_mask_invert else "white",
        mask_blur=_or(fields.mask_blur, DEFAULT_MASK_BLUR) if call.mask else None,
        resize_mode=RESIZE_MODES[_or(fields.resize_mode, 0)],
        strength=_or(fields.denoising_strength, DEFAULT_STRENGTH),
    )


def ignored(fields: TextFields) -> list[str]:
    """What the client asked for and does not get, in sentences."""
    names = list(_IGNORED)
    if isinstance(fields, ImageFields) and fields.mask:
        names += _IGNORED_OF_MASKS
    neutral = _IGNORED | _IGNORED_OF_MASKS
    said = {name: value for name in names if (value := getattr(fields, name, None)) is not None}
    told = [
        f"{name} {shown(value)} was ignored; it is not offered"
        for name, value in said.items()
        if value not in neutral[name]
    ]
    overridden = [
        shown(name)
        for name, value in overrides(fields).items()
        if name != MODEL_SETTING and value not in _NEUTRAL_OVERRIDES.get(name, ())
    ]
    if overridden:
        told.append(f"override_settings: ignored {listed(overridden)}; only {MODEL_SETTING} counts")
    return told


_IGNORED: dict[str, tuple[object, ...]] = {
    "styles": ([],),
    "save_images": (False,),
    "clip_skip": (0, 1),
    "eta": (0, 1),
    "s_churn": (0,),
    "s_tmin": (0,),
    "s_tmax": (0,),
    "s_noise": (1,),
    "initial_noise_multiplier": (1,),
}
"""Fields, each with the values at which there is nothing to ignore."""

_IGNORED_OF_MASKS: dict[str, tuple[object, ...]] = {
    "inpainting_fill": (1,),  # start from the picture itself, as is done here
    "inpaint_full_res": (False,),
}

_NEUTRAL_OVERRIDES: dict[str, tuple[object, ...]] = {
    "CLIP_stop_at_last_layers": (1,),
    "sd_vae": (None, "", "None", "Automatic"),
}


def _refuse_not_offered(fields: TextFields) -> None:
    """What would make another picture, refused before anything is run."""
    for name, off in _NOT_OFFERED.items():
        value = getattr(fields, name)
        if isinstance(value, msgspec.Raw):
            value = bytes(memoryview(value)[:MAX_SHOWN]).decode(errors="replace")
            value = "" if value.replace(" ", "") in ("null", "{}") else value
        # The web UI's own -1 is off too.
        if value and not (isinstance(value, int | float) and value < 0):
            raise InvalidRequest(
                f"{name} {shown(value)} is not offered; leave it out or send {off}", param=name
            )


_NOT_OFFERED = {
    "enable_hr": "false",
    "restore_faces": "false",
    "tiling": "false",
    "subseed_strength": "0",
    "seed_resize_from_w": "0",
    "seed_resize_from_h": "0",
    "script_name": "null",
    "alwayson_scripts": "{}",
}


def _num_images(fields: TextFields, card: ModelCard) -> int:
    for name in ("batch_size", "n_iter"):
        value = getattr(fields, name)
        if value is not None and not 1 <= value <= card.max_images:
            raise InvalidRequest(
                f"{name} must be from 1 to {card.max_images}, got {shown(value)}", param=name
            )
    return _or(fields.batch_size, 1) * _or(fields.n_iter, 1)


def _size(fields: TextFields, card: ModelCard) -> tuple[int | None, int | None]:
    """512x512 unless the client says otherwise; where that is not offered, the model's own."""
    if fields.width is None and fields.height is None:
        square = DEFAULT_SIDE, DEFAULT_SIDE
        return square if nearest_size(*square, card) == square else (None, None)
    return _or(fields.width, DEFAULT_SIDE), _or(fields.height, DEFAULT_SIDE)


def _scheduler(fields: TextFields) -> str | None:
    """The sampler together with how its noise levels are spaced: two fields here."""
    sampler = fields.sampler_name or fields.sampler_index
    spacing = (fields.scheduler or "automatic").casefold()
    if spacing in OWN_SPACINGS or (sampler or "").casefold().endswith(spacing):
        return sampler
    return f"{sampler or DEFAULT_SAMPLER} {fields.scheduler}"


def _seed(seed: int | None) -> int:
    if seed is None or seed == -1:
        return secrets.randbelow(MAX_RANDOM_SEED + 1)
    return seed


def _or(value: ValueT | None, default: ValueT) -> ValueT:
    return default if value is None else value
