"""Any diffusers scheduler, as a table of step matrices.

Every scheduler that Stable Diffusion uses is linear in the sample, the model output and the
noise; only the coefficients differ from one model call to the next. So no sampler is written by
hand and no scheduler object runs in the loop. A row's state is S: K latent-shaped buffers, of
which S[0] is the sample and the others are what its scheduler keeps inside itself (old model
outputs, the last sample). One model call is

    eps = model(scale * S[0], timestep)
    S   = matrix @ [S; eps; noise]

and the matrices are read off the real scheduler (`probe.py`).

This module knows no engine, no batch and no latents.
"""

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import diffusers
import numpy as np
from numpy.typing import NDArray

from deployments.diffusion.probe import BASIS, Call, probe
from deployments.diffusion.samplers import FLOW_EULER, SAMPLERS, Sampler
from deployments.errors import UnsupportedScheduler

_TABLES_KEPT = 512

FLOW = "flow_prediction"


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
    clean: NDArray[np.float32]
    """(N, 2): at call i the model takes the clean latents to be a * S[0] + b * eps.

    S[0] is the sample before the call, unscaled, and eps the model output after guidance.
    """

    @property
    def calls(self) -> int:
        """Model calls, which are not steps: 20 steps of Heun are 39 calls."""
        return len(self.timesteps)

    @property
    def buffers(self) -> int:
        """K, the number of latent-shaped buffers of the row's state."""
        return int(self.matrices.shape[1])


class FlowShift(NamedTuple):
    """How a flow-matching model spaces its noise levels for one size of picture."""

    mu: float | None = None
    """The shift's logarithm where it depends on the size; None where the config has the shift."""
    even: bool = False
    """Whether the levels before the shift fall evenly from 1 to 1 / steps, as FLUX's pipeline has
    it; else the scheduler's own."""


class StepTables:
    """The tables of one model's samplers, built when first asked for and kept (512 of them).

    Samplers go by their names in `samplers`.
    """

    def __init__(
        self, scheduler_config: Mapping[str, Any], samplers: Mapping[str, Sampler] = SAMPLERS
    ) -> None:
        self._config, self._samplers = dict(scheduler_config), samplers
        self._build: Callable[..., StepTable] = lru_cache(_TABLES_KEPT)(self._probed)

    def text_to_image(self, sampler: str, steps: int, flow: FlowShift | None = None) -> StepTable:
        """The table of a run from pure noise. `flow` is of flow-matching models alone."""
        return self._build(sampler, steps, 0, True, flow)

    def image_to_image(
        self,
        sampler: str,
        steps: int,
        strength: float,
        *,
        inpaint: bool,
        flow: FlowShift | None = None,
    ) -> StepTable:
        """The table of a run begun in the middle, as diffusers' img2img and inpaint pipelines do.

        `strength` is in (0, 1], and its share of `steps` is at least one step. Of a broken share
        the pipelines of flow-matching models run the begun step too, the others do not.
        """
        run = min(int(steps * strength), steps)
        if flow is not None:
            run = steps - int(steps - min(steps * strength, steps))
        return self._build(sampler, steps, steps - run, inpaint and strength == 1.0, flow)

    def _probed(
        self, sampler: str, steps: int, begin: int, from_noise: bool, flow: FlowShift | None
    ) -> StepTable:
        try:
            scheduler = make_scheduler(sampler, self._config, self._samplers, flow)
            spacing = _spacing(scheduler, steps, flow)
            first = next(probe(copy.deepcopy(scheduler), steps, begin, unit=1e2, **spacing))
            calls = list(probe(scheduler, steps, begin, unit=1e-2, **spacing))
            # A clipping or thresholding scheduler is linear nowhere: two scales tell it apart.
            if not np.allclose(first.rows, calls[0].rows, rtol=1e-3, atol=1e-4):
                raise _nonlinear(sampler, scheduler.config)
            return _table(calls, scheduler, from_noise=from_noise)
        except (ValueError, IndexError, RuntimeError, ZeroDivisionError) as error:
            raise UnsupportedScheduler(
                f"scheduler {sampler} cannot run {steps} steps here: {error}; "
                "use another number of steps or another scheduler",
                param="scheduler",
            ) from error


def make_scheduler(
    sampler: str,
    config: Mapping[str, Any],
    samplers: Mapping[str, Sampler] = SAMPLERS,
    flow: FlowShift | None = None,
) -> Any:
    """The diffusers scheduler that a sampler's name stands for, over a model's own config."""
    name, overrides = samplers[sampler]
    own = json.loads(json.dumps({**config, **overrides}))
    if flow is not None and name != FLOW_EULER:
        # These know no shift that depends on the size, or another word for it; exp(mu) is the same.
        shift = own.get("shift", 1.0) if flow.mu is None else math.exp(flow.mu)
        own |= {"shift": shift, "flow_shift": shift, "use_dynamic_shifting": False}
    return getattr(diffusers, name).from_config(own)


def _spacing(scheduler: Any, steps: int, flow: FlowShift | None) -> dict[str, Any]:
    """What the model's pipeline tells `set_timesteps` besides the number of steps."""
    if flow is None or type(scheduler).__name__ != FLOW_EULER:
        return {}
    spacing: dict[str, Any] = {} if flow.mu is None else {"mu": flow.mu}
    if flow.even:
        spacing["sigmas"] = np.linspace(1.0, 1 / steps, steps)
    return spacing


def _nonlinear(sampler: str, config: Mapping[str, Any]) -> UnsupportedScheduler:
    settings = [key for key in ("clip_sample", "thresholding") if config.get(key)]
    cure = " and ".join(f"{key}: false" for key in settings) or "another scheduler"
    return UnsupportedScheduler(
        f"scheduler {sampler} is not linear with this model's config; set {cure} in its config",
        param="scheduler",
    )


def _table(calls: list[Call], scheduler: Any, *, from_noise: bool) -> StepTable:
    buffers = max(max(call.inputs, len(call.rows)) for call in calls)
    matrices = np.zeros((len(calls), buffers, buffers + 2), np.float32)
    for matrix, call in zip(matrices, calls, strict=True):
        matrix[: len(call.rows), : call.inputs] = call.rows[:, : call.inputs]
        matrix[: len(call.rows), buffers:] = call.rows[:, BASIS - 2 :]
    if any(call.draws > 1 for call in calls):
        raise ValueError("it draws noise more than once in a model call")
    levels = [call.level for call in calls]
    prediction_type = scheduler.config.get("prediction_type", FLOW)
    return StepTable(
        timesteps=np.array([call.timestep for call in calls], np.float32),
        scales=np.array([call.scale for call in calls], np.float32),
        matrices=matrices,
        draws=np.array([call.draws == 1 for call in calls]),
        start=(0.0, float(getattr(scheduler, "init_noise_sigma", 1.0)))
        if from_noise
        else levels[0],
        blend=np.array([*levels[1:], (1.0, 0.0)], np.float32),
        clean=np.array([_clean(call, prediction_type) for call in calls], np.float32),
    )


def _clean(call: Call, prediction_type: str) -> tuple[float, float]:
    """What the model sees is signal * clean latents + noise * n, and its variance is one.

    The noise is taken from that and not from the call's level: in the middle of a step of KDPM2
    `add_noise` gives the level of the step's end.
    """
    signal = call.scale * call.level[0]
    noise = math.sqrt(max(1 - signal**2, 0.0))
    if prediction_type == "v_prediction":
        return signal * call.scale, -noise
    if prediction_type == "sample":
        return 0.0, 1.0
    if prediction_type == FLOW:  # the output is noise - clean, the sample lies between the two
        return 1.0, -call.level[1]
    return 1 / call.level[0], -noise / signal
