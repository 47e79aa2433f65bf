"""Which step cache a model has, if any. All of them are lossy."""

from typing import Any

from deployments.diffusion.families.family import Family
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.step_cache import StepCache
from deployments.diffusion.switches.deep_cache import DeepCache
from deployments.diffusion.switches.first_block_cache import FirstBlockCache


def check_cache(denoiser: Any, settings: DiffusionSettings) -> None:
    """Raises ValueError for the cache of another kind of denoiser."""
    kind, is_unet = type(denoiser).__name__, hasattr(denoiser, "up_blocks")
    if settings.deep_cache > 1 and not is_unet:
        raise ValueError(
            f"model {settings.id}: deep_cache is {settings.deep_cache}, which is for UNets, and "
            f"this model has a {kind}; set deep_cache: 1, and first_block_cache: 0.1"
        )
    if settings.first_block_cache and is_unet:
        raise ValueError(
            f"model {settings.id}: first_block_cache is {settings.first_block_cache:g}, which is "
            f"for transformers, and this model has a {kind}; set first_block_cache: 0, and "
            "deep_cache: 2"
        )


def step_cache(family: Family, settings: DiffusionSettings) -> StepCache | None:
    """The cache of a model that was checked; it changes the model's denoiser."""
    if settings.deep_cache > 1:
        return DeepCache(family, settings.deep_cache)
    if settings.first_block_cache:
        return FirstBlockCache(family, settings.first_block_cache)
    return None
