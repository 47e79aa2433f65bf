"""The samplers by name: each one's diffusers class, and what it sets over the model's config.

A sampler has the name that people know it by (`Euler a`, `DPM++ 2M Karras`) or that of its class.
A familiar name settles everything that makes the sampler what it is; a class name leaves that to
the model's own scheduler config. Needs neither torch nor diffusers.

Left out: `DPM++ SDE` (DPMSolverSDEScheduler) and CosineDPMSolverMultistepScheduler, whose noise is
a Brownian tree over the whole run, so that no step stands on its own; IPNDM, the EDM ones, CM, SCM,
UnCLIP, Wuerstchen and CogVideoX, which bring noise levels that no model here was trained with; the
inverse ones and RePaint, which do not generate from noise. Models trained by flow matching (SD3,
FLUX) have samplers of their own, under the same names.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Sampler(NamedTuple):
    """A diffusers scheduler class and what is set over the model's scheduler config."""

    scheduler: str
    overrides: Mapping[str, Any]


_SPACINGS = {
    "Karras": "use_karras_sigmas",
    "Exponential": "use_exponential_sigmas",
    "Beta": "use_beta_sigmas",
}
"""What a name may end with, and the setting that spaces the noise levels so. At most one is on."""

_SPACED_CLASSES: Mapping[str, Mapping[str, Any]] = {
    "DEISMultistepScheduler": {},
    "DPMSolverMultistepScheduler": {},
    # Without it diffusers sets it itself, with a warning, whenever the last sigma is zero.
    "DPMSolverSinglestepScheduler": {"lower_order_final": True},
    "EulerDiscreteScheduler": {},
    "HeunDiscreteScheduler": {},
    "KDPM2AncestralDiscreteScheduler": {},
    "KDPM2DiscreteScheduler": {},
    "LMSDiscreteScheduler": {},
    # It refuses the type that a DPM-Solver's config leaves behind; the others translate it.
    "SASolverScheduler": {"algorithm_type": "data_prediction"},
    "UniPCMultistepScheduler": {},
}
"""Classes that have the three settings."""

_CLASSES: Mapping[str, Mapping[str, Any]] = {
    **_SPACED_CLASSES,
    "DDIMParallelScheduler": {},
    "DDIMScheduler": {},
    "DDPMParallelScheduler": {},
    "DDPMScheduler": {},
    "EulerAncestralDiscreteScheduler": {},
    "LCMScheduler": {},
    # Without it diffusers starts with Runge-Kutta calls, which no Stable Diffusion config wants.
    "PNDMScheduler": {"skip_prk_steps": True},
    "TCDScheduler": {},
}

_ODE = {"algorithm_type": "dpmsolver++", "solver_type": "midpoint", "final_sigmas_type": "zero"}
_MULTISTEP = {**_ODE, "use_lu_lambdas": False}
_MULTISTEP_SDE = {**_MULTISTEP, "algorithm_type": "sde-dpmsolver++"}

_FAMILIAR = {
    "Euler": Sampler("EulerDiscreteScheduler", {}),
    "Euler a": Sampler("EulerAncestralDiscreteScheduler", {}),
    "DPM++ 2M": Sampler("DPMSolverMultistepScheduler", {**_MULTISTEP, "solver_order": 2}),
    "DPM++ 2M SDE": Sampler("DPMSolverMultistepScheduler", {**_MULTISTEP_SDE, "solver_order": 2}),
    "DPM++ 3M": Sampler("DPMSolverMultistepScheduler", {**_MULTISTEP, "solver_order": 3}),
    "DPM++ 3M SDE": Sampler("DPMSolverMultistepScheduler", {**_MULTISTEP_SDE, "solver_order": 3}),
    "DPM++ 2S": Sampler("DPMSolverSinglestepScheduler", {**_ODE, "solver_order": 2}),
    "UniPC": Sampler("UniPCMultistepScheduler", {"solver_type": "bh2", "solver_order": 2}),
    "DDIM": Sampler("DDIMScheduler", {}),
    "DDPM": Sampler("DDPMScheduler", {}),
    "Heun": Sampler("HeunDiscreteScheduler", {}),
    "LMS": Sampler("LMSDiscreteScheduler", {}),
    "DPM2": Sampler("KDPM2DiscreteScheduler", {}),
    "DPM2 a": Sampler("KDPM2AncestralDiscreteScheduler", {}),
    "PLMS": Sampler("PNDMScheduler", {}),
    "DEIS": Sampler("DEISMultistepScheduler", {"algorithm_type": "deis", "solver_order": 2}),
    "LCM": Sampler("LCMScheduler", {}),
    "TCD": Sampler("TCDScheduler", {}),
    "SA-Solver": Sampler("SASolverScheduler", {}),
}


def _named() -> Iterator[tuple[str, Sampler]]:
    for name, (scheduler, overrides) in _FAMILIAR.items():
        own = {**_CLASSES[scheduler], **overrides}
        if scheduler not in _SPACED_CLASSES:
            yield name, Sampler(scheduler, own)
            continue
        even = dict.fromkeys(_SPACINGS.values(), False)
        yield name, Sampler(scheduler, {**own, **even})
        for spacing, setting in _SPACINGS.items():
            yield f"{name} {spacing}", Sampler(scheduler, {**own, **even, setting: True})
    for scheduler, overrides in _CLASSES.items():
        yield scheduler, Sampler(scheduler, overrides)


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(dict(_named()))
"""Name -> sampler: the familiar ones in the order people try them, then the classes."""

_FLOW_ODE = {
    **_ODE,
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
}

FLOW_EULER, _FLOW_HEUN = "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"
"""The first is the one that every flow-matching model is published with."""


def _named_for_flow() -> Iterator[tuple[str, Sampler]]:
    even = dict.fromkeys(_SPACINGS.values(), False)
    yield "Euler", Sampler(FLOW_EULER, even)
    for spacing, setting in _SPACINGS.items():
        yield f"Euler {spacing}", Sampler(FLOW_EULER, {**even, setting: True})
    yield "Heun", Sampler(_FLOW_HEUN, {})
    for order in (2, 3):
        settings = {**_FLOW_ODE, "use_lu_lambdas": False, "solver_order": order}
        yield f"DPM++ {order}M", Sampler("DPMSolverMultistepScheduler", settings)
    yield (
        "UniPC",
        Sampler(
            "UniPCMultistepScheduler",
            {**_FLOW_ODE, "solver_type": "bh2", "solver_order": 2, "predict_x0": True},
        ),
    )
    for scheduler in (FLOW_EULER, _FLOW_HEUN):
        yield scheduler, Sampler(scheduler, {})


FLOW_SAMPLERS: Mapping[str, Sampler] = MappingProxyType(dict(_named_for_flow()))
"""The same for models trained by flow matching."""
