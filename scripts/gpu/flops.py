"""What a forward has to compute, counted without computing it."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from .models import Model, made_family

META = torch.device("meta")


def forward_flop(model: Model) -> int:
    """Floating point operations of one lane of the denoiser; a product and a sum are two."""
    family = made_family(model, META, torch.bfloat16)
    cells = model.side // family.latent_factor
    latents = torch.empty(1, family.latent_channels, cells, cells, device=META)
    timesteps = torch.empty(1, device=META)
    [chunk] = family.tokenize("a red house", weighting=False, max_chunks=1).chunks
    told = family.told((model.side, model.side), model.guidance)
    conditioning = {**family.encode_prompts([chunk]), **told}
    with FlopCounterMode(display=False) as counter:
        family.denoise(latents, timesteps, conditioning)
    return int(counter.get_total_flops())
