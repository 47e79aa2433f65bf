"""Which families there are, and how a model's files tell which is theirs."""

from collections.abc import Iterable

from deployments.diffusion.families.family import Family
from deployments.diffusion.families.flux import Flux
from deployments.diffusion.families.stable_diffusion import StableDiffusion
from deployments.diffusion.families.stable_diffusion_3 import StableDiffusion3
from deployments.diffusion.families.stable_diffusion_xl import StableDiffusionXL

FAMILIES: tuple[type[Family], ...] = (
    StableDiffusionXL,
    StableDiffusion3,
    Flux,
    StableDiffusion,
)
"""In the order in which a checkpoint is held against them: SDXL's has all that the first one's has,
and more."""


def family_of_pipeline(pipeline_name: str) -> type[Family]:
    """The family whose folders have this `_class_name`. Raises ValueError with what there is."""
    for family in FAMILIES:
        if pipeline_name in family.pipeline_names:
            return family
    known = ", ".join(family.pipeline_class.__name__ for family in FAMILIES)
    raise ValueError(
        f"model_index.json says {pipeline_name}: no family here serves that; those served are "
        f"{known} and their img2img and inpainting variants"
    )


def family_of_checkpoint(keys: Iterable[str]) -> type[Family] | None:
    """The family whose single-file checkpoints have such keys; None if none does."""
    names = list(keys)
    for family in FAMILIES:
        if any(family.checkpoint_mark in name for name in names):
            return family
    return None
