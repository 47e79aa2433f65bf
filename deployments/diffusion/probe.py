"""Reads a diffusers scheduler's arithmetic off, by running it on unit vectors.

At each model call every tensor that the scheduler holds is replaced by a unit vector of a small
basis, the sample, the model output and the noise are three more, `step` runs on these, and what
comes out are the rows of the matrix by which it works.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

BASIS = 24
"""The largest state seen is 5 buffers; 24 is also no shape that a scheduler holds."""
_SHAPE = (1, 1, 1, BASIS)
_EPS, _NOISE = BASIS - 2, BASIS - 1


@dataclass(frozen=True, slots=True)
class Call:
    """One model call: what the scheduler tells the model, and what it makes of the answer."""

    timestep: float
    scale: float
    level: tuple[float, float]
    """(a, b): before this call the sample is a * clean latents + b * noise."""
    inputs: int
    """Buffers of the state that it reads, the sample first."""
    rows: NDArray[np.float64]
    """(buffers that it writes, BASIS): the buffers it reads first, model output and noise last."""
    draws: int
    """How often it draws noise."""


def probe(scheduler: Any, steps: int, begin: int, unit: float, **spacing: Any) -> Iterator[Call]:
    """The calls of a schedule from step `begin` on, measured with unit vectors of length `unit`.

    `spacing` goes to the scheduler's `set_timesteps` as it is.
    """
    scheduler.set_timesteps(steps, **spacing)
    timesteps = scheduler.timesteps[begin * scheduler.order :]
    if hasattr(scheduler, "set_begin_index"):  # DDIM, DDPM and PNDM have none
        # For text to image too, where diffusers' pipelines leave it out. The scheduler then looks
        # its first timestep up, and fails at the end where that comes twice (Beta spacing).
        scheduler.set_begin_index(begin * scheduler.order)
    basis = torch.eye(BASIS, dtype=torch.float64).mul(unit).reshape(BASIS, *_SHAPE)
    held: list[torch.Tensor] = []
    for i, timestep in enumerate(timesteps):
        _replace(scheduler, held, basis[1 : 1 + len(held)])
        noised = _noised(scheduler, basis, timesteps[i : i + 1]).flatten() / unit
        scale = 1.0
        if hasattr(scheduler, "scale_model_input"):  # those of flow matching have none
            scale = scheduler.scale_model_input(basis[0], timestep).flatten()[0] / unit
        with _NoiseDraws(basis[_NOISE]) as noise:
            sample = scheduler.step(basis[_EPS], timestep, basis[0], return_dict=False)[0]
        inputs = 1 + len(held)
        held = _held_tensors(scheduler)
        rows = torch.stack([sample, *held]).reshape(1 + len(held), BASIS) / unit
        level = (float(noised[0]), float(noised[_NOISE]))
        yield Call(float(timestep), float(scale), level, inputs, rows.numpy(), noise.drawn)


def _noised(scheduler: Any, basis: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """Clean latents at this noise level; schedulers of flow matching have another word for it."""
    if hasattr(scheduler, "scale_noise"):
        noised: torch.Tensor = scheduler.scale_noise(basis[0], timestep, basis[_NOISE])
    else:
        noised = scheduler.add_noise(basis[0], basis[_NOISE], timestep)
    return noised


class _NoiseDraws(TorchFunctionMode):
    """While active, every normal draw is the noise's unit vector, and is counted."""

    def __init__(self, unit_vector: torch.Tensor) -> None:
        super().__init__()
        self._unit_vector = unit_vector
        self.drawn = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> torch.Tensor:
        if func in (torch.randn, torch.randn_like):
            self.drawn += 1
            return self._unit_vector
        return func(*args, **(kwargs or {}))  # type: ignore[no-any-return]


def _held_tensors(scheduler: Any) -> list[torch.Tensor]:
    """The latent-shaped tensors that the scheduler keeps for later; equal ones once."""
    held: list[torch.Tensor] = []
    for _, _, tensor in _places(scheduler):
        if not any(torch.equal(tensor, other) for other in held):
            held.append(tensor)
    return held


def _replace(scheduler: Any, held: list[torch.Tensor], vectors: torch.Tensor) -> None:
    for holder, key, tensor in list(_places(scheduler)):
        slot = next(i for i, other in enumerate(held) if torch.equal(tensor, other))
        holder[key] = vectors[slot]


def _places(scheduler: Any) -> Iterator[tuple[Any, Any, torch.Tensor]]:
    """Where a latent-shaped tensor is kept: its container, its key there, the tensor."""
    for name, value in vars(scheduler).items():
        if isinstance(value, torch.Tensor) and value.shape == _SHAPE:
            yield vars(scheduler), name, value
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, torch.Tensor) and item.shape == _SHAPE:
                    yield value, index, item
