"""The order in which switches are applied to a pipeline that was just read."""

from typing import Any

import torch

from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.switches.attention import set_attention
from deployments.diffusion.switches.caching import check_cache
from deployments.diffusion.switches.placement import place
from deployments.diffusion.switches.quantization import quantize
from deployments.diffusion.switches.tiny_vae import read_tiny_vae


def switch_on(pipeline: Any, settings: DiffusionSettings, device: torch.device) -> Any:
    """Changes the pipeline, which is on the CPU, and places it on the device.

    Gives the autoencoder that decodes previews, on the device; None where the family's latent map
    does. Raises ValueError for what this model cannot do.
    """
    denoiser = pipeline.components.get("unet") or pipeline.components["transformer"]

    check_cache(denoiser, settings)

    # 1. What becomes of its parts. Layers are fused before they are quantized.
    tiny = None
    if settings.tiny_vae:
        tiny = read_tiny_vae(settings, pipeline, getattr(torch, settings.dtype))
        if settings.tiny_vae_for == "everything":
            pipeline.vae = tiny
    set_attention(denoiser, settings)
    if settings.channels_last:
        for part in (denoiser, pipeline.vae, tiny):
            if part is not None:
                part.to(memory_format=torch.channels_last)
    if settings.quantization != "none":
        quantize(denoiser, settings.quantization)
    if settings.vae_slicing:
        pipeline.vae.enable_slicing()

    # 2. Where they are.
    place(pipeline, settings.offload, device)
    if tiny is None or tiny is pipeline.vae:
        return tiny
    return tiny.to(device)  # of a few MB, so that no offload has a use for it
