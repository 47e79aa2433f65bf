"""Lanes padded to declared buckets, so that a compiled step meets no shape it does not know."""

from collections.abc import Sequence

import torch

from deployments.diffusion.batch import Denoise
from deployments.diffusion.families.family import Conditioning


def bucketed(denoise: Denoise, buckets: Sequence[int]) -> Denoise:
    """Pads every call to the next bucket; the padded lanes' output is cut off again.

    Padding repeats the first lane, whose numbers are sound; a lane of zeros can divide by zero.
    """

    def padded(
        latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        lanes = len(latents)
        missing = next(bucket for bucket in buckets if bucket >= lanes) - lanes
        if not missing:
            return denoise(latents, timesteps, conditioning)

        def pad(tensor: torch.Tensor) -> torch.Tensor:
            return torch.cat([tensor, tensor[:1].expand(missing, *tensor.shape[1:])])

        padding = {name: pad(tensor) for name, tensor in conditioning.items()}
        return denoise(pad(latents), pad(timesteps), padding)[:lanes]

    return padded
