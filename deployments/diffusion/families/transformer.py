"""The denoiser of the families that have a transformer."""

from collections.abc import Sequence
from typing import Any

import torch

from deployments.diffusion.families.family import Conditioning, Family
from deployments.diffusion.families.first_block_cache import FirstBlockCache
from deployments.diffusion.samplers import FLOW_SAMPLERS
from deployments.diffusion.step_cache import CachedDenoise, LaneCache


class TransformerFamily(Family):
    """Stable Diffusion 3 and FLUX: what their transformers have in common."""

    samplers = FLOW_SAMPLERS

    @property
    def denoiser(self) -> Any:
        """The transformer."""
        return self.pipeline.transformer

    def keep_blocks(self, threshold: float) -> CachedDenoise:
        """First Block Cache: blocks run again once the first one's part has changed by so much."""
        blocks = FirstBlockCache(self.denoiser, threshold)

        def denoise(
            latents: torch.Tensor,
            timesteps: torch.Tensor,
            conditioning: Conditioning,
            *,
            caches: Sequence[LaneCache],
            calls: Sequence[int],
        ) -> torch.Tensor:
            with blocks.of(caches):
                return self.denoise(latents, timesteps, conditioning)

        return denoise
