"""All the noise a row will ever need, drawn before it starts from a CPU generator of its own seed.

So a picture does not depend on the device, on the rows beside it or on the replica. The order of
the draws is that of diffusers' pipelines, so the same seed gives the same picture there.
"""

from dataclasses import dataclass

import numpy as np
import torch

from deployments.diffusion.sampling import StepTable


@dataclass(frozen=True, slots=True)
class RowNoise:
    """Standard normal float32 tensors on the CPU, each (C, h, w)."""

    encoder: torch.Tensor
    """For sampling the encoded input image; zeros where the encoder does not draw."""
    start: torch.Tensor
    masked: torch.Tensor
    """For sampling the encoded image without what is repainted, which inpainting models see; zeros
    where nothing is drawn."""
    steps: torch.Tensor
    """(draws, C, h, w), one for each call at which the scheduler draws."""
    step_index: tuple[int, ...]
    """Per model call: which of `steps` it takes, or -1."""


def draw_noise(
    seed: int, shape: tuple[int, int, int], table: StepTable, *, encodes: bool, inpaints: bool
) -> RowNoise:
    """`shape` is (C, h, w); `encodes` and `inpaints` say whether encoding the input image, and the
    image without what is repainted, draws."""
    generator = torch.Generator("cpu").manual_seed(seed)

    def draw(count: int) -> torch.Tensor:
        return torch.randn((count, *shape), generator=generator)

    encoder = draw(1)[0] if encodes else torch.zeros(shape)
    start = draw(1)[0]
    # diffusers encodes the masked image even where the UNet does not see it.
    masked = draw(1)[0] if inpaints else torch.zeros(shape)
    # One draw at a time: a single large one would give other numbers than the scheduler's many.
    steps = [draw(1)[0] for _ in range(int(table.draws.sum()))]
    index = np.where(table.draws, np.cumsum(table.draws) - 1, -1)
    stacked = torch.stack(steps) if steps else torch.zeros((0, *shape))
    return RowNoise(encoder, start, masked, stacked, tuple(int(i) for i in index))
