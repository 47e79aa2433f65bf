"""Warm-up: everything a first request would otherwise wait for, and what a lane costs."""

import logging
import time
from collections.abc import Sequence

import torch

from deployments.diffusion.batch import Denoise
from deployments.diffusion.families.family import Family
from deployments.imaging import kernels

logger = logging.getLogger(__name__)


def warm_up(family: Family, denoise: Denoise, buckets: Sequence[int]) -> float:
    """Runs every part once at the native size, and each lane bucket thrice.

    Returns the seconds that one lane of one model call costs in the fullest bucket.
    """
    kernels.warm_up()  # finished edits are composited here
    side = family.native_side // family.latent_factor
    latents = torch.zeros(1, family.latent_channels, side, side, device=family.device)
    pixels = torch.zeros(1, 3, family.native_side, family.native_side, device=family.device)
    family.encode_images(pixels, latents)
    family.decode(latents)
    conditioning = family.encode_prompts([""])
    lane_call_s = 0.0
    for bucket in buckets:
        # Dense, as a batch's own are: torch.compile guards on strides, and expanded tensors have 0.
        lanes = torch.cat([latents] * bucket)
        timesteps = torch.full((bucket,), 500.0, device=family.device)
        text = {name: torch.cat([t] * bucket) for name, t in conditioning.items()}
        for _ in range(3):  # the first call compiles and allocates, the second records CUDA graphs
            begun_s = time.monotonic()
            denoise(lanes, timesteps, text).sum().item()  # .item() waits for the device
            call_s = time.monotonic() - begun_s
        lane_call_s = call_s / bucket
        logger.info("warm-up: %d lanes take %.1f ms", bucket, call_s * 1e3)
    return lane_call_s
