"""The models that are measured: random weights cost what trained ones cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from batching.models import NOISE, letter_t5_tokenizer, letter_tokenizer, stable_diffusion
from diffusers import (
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
)

from deployments.diffusion.families.family import Family
from deployments.diffusion.families.flux import DEV_TOKENS, Flux
from deployments.diffusion.families.stable_diffusion import StableDiffusion
from deployments.diffusion.families.stable_diffusion_3 import StableDiffusion3
from deployments.diffusion.families.stable_diffusion_xl import StableDiffusionXL

from . import sizes
from .sizes import Parts


class Model(NamedTuple):
    """A model and the work that it is measured with."""

    family: type[Family]
    assembled: Callable[..., Any]
    """Its parts, by name -> diffusers' pipeline."""
    parts: Parts
    side: int
    """Pixels along each side of the picture."""
    steps: int
    guidance: float
    lanes: int
    """Of a full batch, where the engine is saturated."""


def modules(parts: Parts, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The parts with random weights, made where they stay and as they stay.

    The host's memory holds none of them, and no file is written.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return {name: part.make() for name, part in parts.items()}
    finally:
        torch.set_default_dtype(before)


def made_pipeline(model: Model, device: torch.device, dtype: torch.dtype) -> Any:
    """A diffusers pipeline of the model, on the device, as diffusers itself would leave it."""
    torch.manual_seed(0)
    parts = modules(model.parts, device, dtype)
    for part in parts.values():
        part.requires_grad_(False).eval()
    pipeline = model.assembled(**parts)
    pipeline.register_to_config(_name_or_path="random weights")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def made_family(model: Model, device: torch.device, dtype: torch.dtype) -> Family:
    """The model as the engine runs it."""
    return model.family(made_pipeline(model, device, dtype), device, dtype)


def _xl(**parts: Any) -> Any:
    pipeline = StableDiffusionXLPipeline(
        **parts,
        **_clip_tokenizers(parts),
        scheduler=EulerDiscreteScheduler(**NOISE),
        add_watermarker=False,
    )
    pipeline.scheduler.register_to_config(clip_sample=False)
    return pipeline


def _sd3(**parts: Any) -> Any:
    return StableDiffusion3Pipeline(
        **parts,
        **_clip_tokenizers(parts),
        tokenizer_3=letter_t5_tokenizer(DEV_TOKENS),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def _flux(**parts: Any) -> Any:
    return FluxPipeline(
        **parts,
        tokenizer=letter_tokenizer(_positions(parts["text_encoder"])),
        tokenizer_2=letter_t5_tokenizer(DEV_TOKENS),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
    )


def _clip_tokenizers(parts: Mapping[str, Any]) -> dict[str, Any]:
    tokens = _positions(parts["text_encoder"])
    second = letter_tokenizer(tokens, padding="!")
    return {"tokenizer": letter_tokenizer(tokens), "tokenizer_2": second}


def _positions(text_encoder: Any) -> int:
    return int(text_encoder.config.max_position_embeddings)


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "sd15": Model(StableDiffusion, stable_diffusion, sizes.SD15, 512, 20, 7.5, 16),
        "sdxl": Model(StableDiffusionXL, _xl, sizes.SDXL, 1024, 20, 5.0, 8),
        "sd3": Model(StableDiffusion3, _sd3, sizes.SD3, 1024, 20, 7.0, 8),
        "flux": Model(Flux, _flux, sizes.FLUX, 1024, 28, 3.5, 2),
    }
)
"""Stable Diffusion 1.5, SDXL, Stable Diffusion 3 medium and FLUX.1 dev, by name."""

TOYS: Mapping[str, Model] = MappingProxyType(
    {
        name: MODELS[name]._replace(parts=parts, side=64, steps=4, lanes=4)
        for name, parts in {
            "sd15": sizes.TOY_SD15,
            "sdxl": sizes.TOY_SDXL,
            "sd3": sizes.TOY_SD3,
            "flux": sizes.TOY_FLUX,
        }.items()
    }
)
"""The same at a size at which nothing that is measured says anything."""
