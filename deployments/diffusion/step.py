"""One model call for every row of a batch, each by its own numbers: the whole arithmetic of it.

A pure function of tensors, so that it can be compiled in one piece. R rows take L lanes: first one
lane for each row, then a second, unconditional one for each row whose guidance is on. Both counts
may be padded; what the padding computes is sound, and thrown away.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch

from deployments.diffusion.families.family import Conditioning

Denoise: TypeAlias = Callable[[torch.Tensor, torch.Tensor, Conditioning], torch.Tensor]
"""(L, C, h, w) latents, (L,) timesteps, conditioning of L lanes -> the model's output."""

SCALARS = 6
"""Numbers of a row before its matrix: scale, timestep, guidance, rescale, and the blend's two."""


class Stack(NamedTuple):
    """The rows of a batch as tensors; they change when a row joins, leaves or changes lanes."""

    row_of_lane: torch.Tensor
    """(L,) which row each lane belongs to."""
    second_lane: torch.Tensor
    """(R,) the lane without the prompt; a row with guidance off names its only lane."""
    conditioning: Conditioning
    """L lanes."""
    mask: torch.Tensor
    """(R, 1, h, w); 1 is painted anew, also where a row has no mask."""
    image_latents: torch.Tensor
    """(R, C, h, w); zeros where a row has no mask."""
    image_noise: torch.Tensor
    """(R, C, h, w); the noise that keeps the unpainted region at the run's noise level."""


Step: TypeAlias = Callable[
    [Denoise, torch.Tensor, Stack, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]
]


def one_step(
    denoise: Denoise, state: torch.Tensor, stack: Stack, numbers: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next state (R, K, C, h, w), and the guided model output (R, C, h, w) that led to it.

    `numbers` is (R, SCALARS + K * (K + 2)) as `numbers_of` lays it out, `noise` (R, C, h, w).
    """
    rows, buffers = state.shape[:2]
    scale, timestep, guidance, rescale, *blend = numbers[:, :SCALARS].unbind(1)
    matrices = numbers[:, SCALARS:].view(rows, buffers, buffers + 2)

    sample = _column(scale) * state[:, 0]
    lanes = denoise(sample[stack.row_of_lane], timestep[stack.row_of_lane], stack.conditioning)
    output = _guided(lanes[:rows], lanes[stack.second_lane], guidance, rescale)

    # The latent's three axes are one to the matmul: (R, K, K + 2) @ (R, K + 2, C * h * w).
    inputs = torch.cat([state, output[:, None], noise[:, None]], dim=1)
    state = (matrices @ inputs.flatten(2)).view_as(state)

    image, image_noise = (_column(share) for share in blend)
    kept = image * stack.image_latents + image_noise * stack.image_noise
    painted = stack.mask * state[:, 0] + (1 - stack.mask) * kept
    return torch.cat([painted[:, None], state[:, 1:]], dim=1), output


def _guided(
    conditional: torch.Tensor,
    unconditional: torch.Tensor,
    guidance: torch.Tensor,
    rescale: torch.Tensor,
) -> torch.Tensor:
    """Classifier-free guidance with one scale per row, then rescaled as in arXiv 2305.08891.

    With guidance off both lanes are the same one, and the result is exactly it.
    """
    guided = unconditional + _column(guidance) * (conditional - unconditional)
    contrast = conditional.flatten(1).std(dim=1) / guided.flatten(1).std(dim=1)
    # Not by a product with 0: a flat output has no contrast, and 0 / 0 must not reach other rows.
    factor = torch.where(rescale > 0, 1 + rescale * (contrast - 1), 1.0)
    return guided * _column(factor)


def _column(values: torch.Tensor) -> torch.Tensor:
    """(R,) -> (R, 1, 1, 1)"""
    return values[:, None, None, None]
