"""Any diffusers scheduler, as a table of step matrices.

Every scheduler that Stable Diffusion uses is linear in the sample, the model output and the
noise; only the coefficients differ from one model call to the next. So no sampler is written by
hand and no scheduler object runs in the loop. A row's state is S: K latent-shaped buffers, of
which S[0] is the sample and the others are what its scheduler keeps inside itself (old model
outputs, the last sample). One model call is

    eps = model(scale * S[0], timestep)
    S   = matrix @ [S; eps; noise]

and the matrices are read off the real scheduler: every tensor that it holds is replaced by a
unit vector of a small basis, `step` runs on these, and what comes out are the matrix's rows.

This module knows no engine, no batch and no latents.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from deployments.errors import UnsupportedScheduler

SCHEDULERS: Mapping[str, Mapping[str, Any]] = {
    "DDIMScheduler": {},
    "DDPMScheduler": {},
    "DEISMultistepScheduler": {},
    "DPMSolverMultistepScheduler": {},
    # Without it diffusers sets it itself, with a warning, whenever the last sigma is zero.
    "DPMSolverSinglestepScheduler": {"lower_order_final": True},
    "EulerAncestralDiscreteScheduler": {},
    "EulerDiscreteScheduler": {},
    "HeunDiscreteScheduler": {},
    "KDPM2AncestralDiscreteScheduler": {},
    "KDPM2DiscreteScheduler": {},
    "LCMScheduler": {},
    "LMSDiscreteScheduler": {},
    # Without it diffusers starts with Runge-Kutta calls, which no Stable Diffusion config wants.
    "PNDMScheduler": {"skip_prk_steps": True},
    "SASolverScheduler": {},
    "TCDScheduler": {},
    "UniPCMultistepScheduler": {},
}
"""Class name -> what is set over the model's own scheduler config."""

_BASIS = 24  # The largest state seen is 5 buffers; 24 is also no shape that a scheduler holds.
_SHAPE = (1, 1, 1, _BASIS)
_EPS, _NOISE = _BASIS - 2, _BASIS - 1
_TABLES_KEPT = 512


@dataclass(frozen=True, slots=True)
class StepTable:
    """Everything a row needs of its scheduler; N model calls over K state buffers."""

    timesteps: NDArray[np.float32]
    """(N,) what the model is told."""
    scales: NDArray[np.float32]
    """(N,) factor on the sample before the model sees it."""
    matrices: NDArray[np.float32]
    """(N, K, K + 2); columns are the K buffers, the model output, the noise."""
    draws: NDArray[np.bool_]
    """(N,) whether the scheduler draws noise at this call; elsewhere drawing would break parity."""
    start: tuple[float, float]
    """(a, b): the first sample is a * image latents + b * noise; a is 0 for text-to-image."""
    blend: NDArray[np.float32]
    """(N, 2): after call i the unpainted region is a * image latents + b * noise."""

    @property
    def calls(self) -> int:
        """Model calls, which are not steps: 20 steps of Heun are 39 calls."""
        return len(self.timesteps)

    @property
    def buffers(self) -> int:
        """K, the number of latent-shaped buffers of the row's state."""
        return int(self.matrices.shape[1])


class StepTables:
    """The tables of one model's schedulers, built when first asked for and kept (512 of them)."""

    def __init__(self, scheduler_config: Mapping[str, Any]) -> None:
        self._config = dict(scheduler_config)
        self._build: Callable[..., StepTable] = lru_cache(_TABLES_KEPT)(self._probe)

    def text_to_image(self, scheduler: str, steps: int) -> StepTable:
        """The table of a run from pure noise."""
        return self._build(scheduler, steps, None, True)

    def image_to_image(
        self, scheduler: str, steps: int, strength: float, *, inpaint: bool
    ) -> StepTable:
        """The table of a run begun in the middle, as diffusers' img2img and inpaint pipelines do.

        `strength` is in (0, 1], and its share of `steps` is at least one step.
        """
        run = min(int(steps * strength), steps)
        return self._build(scheduler, steps, steps - run, inpaint and strength == 1.0)

    def _probe(self, name: str, steps: int, begin: int | None, from_noise: bool) -> StepTable:
        config = {**self._config, **SCHEDULERS[name]}
        try:
            # A clipping or thresholding scheduler is linear nowhere: two scales tell it apart.
            small, large = (
                _probe(_make(name, config), steps, begin, from_noise, unit) for unit in (1e-2, 1e2)
            )
        except (ValueError, IndexError, RuntimeError, ZeroDivisionError) as error:
            raise UnsupportedScheduler(
                f"scheduler {name} cannot run {steps} steps here: {error}; "
                "use another number of steps or another scheduler",
                param="scheduler",
            ) from error
        if not np.allclose(small.matrices, large.matrices, rtol=1e-3, atol=1e-4):
            raise UnsupportedScheduler(
                _nonlinear(name, _make(name, config).config), param="scheduler"
            )
        return small


def _make(name: str, config: Mapping[str, Any]) -> Any:
    return getattr(diffusers, name).from_config(json.loads(json.dumps(config)))


def _nonlinear(name: str, config: Mapping[str, Any]) -> str:
    settings = [key for key in ("clip_sample", "thresholding") if config.get(key)]
    cure = " and ".join(f"{key}: false" for key in settings) or "another scheduler"
    return f"scheduler {name} is not linear with this model's config; set {cure} in its config"


def _probe(
    scheduler: Any, steps: int, begin: int | None, from_noise: bool, unit: float
) -> StepTable:
    """Runs the whole schedule on unit vectors of length `unit` and reads the coefficients off."""
    basis = torch.eye(_BASIS, dtype=torch.float64).mul(unit).reshape(_BASIS, *_SHAPE)
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps
    if begin is not None:
        timesteps = timesteps[begin * scheduler.order :]
        if hasattr(scheduler, "set_begin_index"):  # DDIM, DDPM and PNDM have none
            scheduler.set_begin_index(begin * scheduler.order)

    def noising(timestep: torch.Tensor) -> tuple[float, float]:
        noised = scheduler.add_noise(basis[0], basis[_NOISE], timestep).flatten() / unit
        return float(noised[0]), float(noised[_NOISE])

    start = (0.0, float(scheduler.init_noise_sigma)) if from_noise else noising(timesteps[:1])
    held: list[torch.Tensor] = []
    calls: list[_Call] = []
    for i, timestep in enumerate(timesteps):
        _replace(scheduler, held, basis[1 : 1 + len(held)])
        scale = scheduler.scale_model_input(basis[0], timestep).flatten()[0] / unit
        with _NoiseDraws(basis[_NOISE]) as noise:
            sample = scheduler.step(basis[_EPS], timestep, basis[0], return_dict=False)[0]
        inputs = 1 + len(held)
        held = _held_tensors(scheduler)
        kept = (1.0, 0.0)
        if begin is not None and i + 1 < len(timesteps):
            kept = noising(timesteps[i + 1 : i + 2])
        rows = torch.stack([sample, *held]).reshape(1 + len(held), _BASIS) / unit
        calls.append(_Call(float(timestep), float(scale), inputs, rows.numpy(), noise.drawn, kept))
    return _table(calls, start)


@dataclass(frozen=True, slots=True)
class _Call:
    timestep: float
    scale: float
    inputs: int
    rows: NDArray[np.float64]
    drawn: int
    kept: tuple[float, float]


def _table(calls: list[_Call], start: tuple[float, float]) -> StepTable:
    buffers = max(max(call.inputs, len(call.rows)) for call in calls)
    matrices = np.zeros((len(calls), buffers, buffers + 2), np.float32)
    for matrix, call in zip(matrices, calls, strict=True):
        matrix[: len(call.rows), : call.inputs] = call.rows[:, : call.inputs]
        matrix[: len(call.rows), buffers:] = call.rows[:, _EPS:]
    if any(call.drawn > 1 for call in calls):
        raise ValueError("it draws noise more than once in a model call")
    return StepTable(
        timesteps=np.array([call.timestep for call in calls], np.float32),
        scales=np.array([call.scale for call in calls], np.float32),
        matrices=matrices,
        draws=np.array([call.drawn == 1 for call in calls]),
        start=start,
        blend=np.array([call.kept for call in calls], np.float32),
    )


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
