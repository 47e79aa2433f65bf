"""Weights of words, as AUTOMATIC1111 applies them to what a text encoder has read."""

import torch

_LEAST_MEAN = 1e-4
"""Of the mean magnitude: a mean below it is rounding, and its ratio to another one is noise."""


def weighted(states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(n, tokens, width) states times (n, tokens) weights, as AUTOMATIC1111 does it by default.

    Each lane's mean is set back to what it was, unless either mean is as good as 0 (text encoders
    with random weights). A lane whose weights are all 1 keeps its bits.
    """
    whole = states.float()
    heavier = whole * weights[..., None]
    before, after = whole.mean((1, 2)), heavier.mean((1, 2))
    tells = (before.abs() > _LEAST_MEAN * whole.abs().mean((1, 2))) & (
        after.abs() > _LEAST_MEAN * heavier.abs().mean((1, 2))
    )
    factor = torch.where(tells, before / after, 1.0)
    restored = (heavier * factor[:, None, None]).to(states.dtype)
    return torch.where((weights == 1).all(dim=1)[:, None, None], states, restored)
