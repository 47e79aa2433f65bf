"""Which step cache a model's settings switch on."""

from deployments.diffusion.families.family import Family
from deployments.diffusion.families.transformer import TransformerFamily
from deployments.diffusion.families.unet import UNetFamily
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.step_cache import CachedDenoise


def cached_denoise(family: Family, settings: DiffusionSettings) -> CachedDenoise | None:
    """The denoiser with its step cache, or None. Raises ValueError where the family has another."""
    if settings.deep_cache_interval > 1:
        if not isinstance(family, UNetFamily):
            raise ValueError(
                f"model {settings.id}: deep_cache_interval is {settings.deep_cache_interval} and a "
                f"{family.name} has no UNet; set first_block_cache_threshold instead"
            )
        return family.keep_deep(settings.deep_cache_interval)
    if settings.first_block_cache_threshold > 0:
        if not isinstance(family, TransformerFamily):
            raise ValueError(
                f"model {settings.id}: first_block_cache_threshold is "
                f"{settings.first_block_cache_threshold:g} and a {family.name} has no transformer; "
                "set deep_cache_interval instead"
            )
        return family.keep_blocks(settings.first_block_cache_threshold)
    return None
