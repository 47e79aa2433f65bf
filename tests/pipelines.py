"""What diffusers' own pipelines make of a row."""

import copy
from typing import Any

import torch
from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)

from deployments.diffusion.families.family import Family
from deployments.diffusion.sampling import make_scheduler
from deployments.requests import PreparedImage, Row

MODES = {
    "text": (None, False),
    "image 0.3": (0.3, False),
    "image 0.7": (0.7, False),
    "inpaint 0.7": (0.7, True),
    "inpaint 1.0": (1.0, True),
}
"""Strength, and whether there is a mask."""


def by_pipeline(
    family: Family, row: Row, prepared: PreparedImage | None = None, **more: Any
) -> torch.Tensor:
    """The same row by the diffusers pipeline itself: final latents (C, h, w).

    `more` goes to the pipeline's call as it is.
    """
    components = {**family.pipeline.components}
    components["scheduler"] = make_scheduler(row.scheduler, family.scheduler_config)
    arguments: dict[str, Any] = {
        "prompt": row.prompt,
        "negative_prompt": row.negative_prompt,
        "num_inference_steps": row.num_inference_steps,
        "guidance_scale": row.guidance_scale,
        "generator": torch.Generator().manual_seed(row.seed),
        "output_type": "latent",
    }
    if "TCD" in row.scheduler:  # its own default, which the pipelines override with 0
        arguments["eta"] = 0.3
    kind: Any = StableDiffusionPipeline
    if prepared is None:
        arguments |= {"width": row.width, "height": row.height}
    else:
        kind = StableDiffusionImg2ImgPipeline
        arguments |= {"image": torch.tensor(prepared.pixels)[None], "strength": row.strength}
    if prepared is not None and prepared.mask is not None:
        kind = StableDiffusionInpaintPipeline
        arguments |= {"mask_image": torch.tensor(prepared.mask)[None, None]}
        arguments |= {"width": row.width, "height": row.height}
        components["unet"] = _said_to_take_four_channels(components["unet"])
    pipeline = kind(**components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    latents: torch.Tensor = pipeline(**arguments, **more).images[0]
    return latents


def _said_to_take_four_channels(unet: Any) -> Any:
    """The inpaint pipeline tells by their number that a UNet sees no mask; ours takes twelve."""
    unet = copy.copy(unet)
    unet.register_to_config(in_channels=4)
    return unet
