"""What the families that have a transformer have in common."""

from typing import Any

from deployments.diffusion.families.family import Family
from deployments.diffusion.samplers import FLOW_SAMPLERS


class TransformerFamily(Family):
    """Stable Diffusion 3 and FLUX."""

    samplers = FLOW_SAMPLERS

    @property
    def denoiser(self) -> Any:
        """The transformer."""
        return self.pipeline.transformer
