"""Tables of step matrices against the diffusers schedulers they were read off."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

from deployments.diffusion.samplers import SAMPLERS
from deployments.diffusion.sampling import StepTable, StepTables, make_scheduler
from deployments.errors import UnsupportedScheduler

CONFIG = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
SAVED_BY_DDIM = {**CONFIG, "prediction_type": "epsilon"}
SAVED_BY_DPM_SOLVER = {
    **CONFIG,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint",
    "use_karras_sigmas": False,
}
FAMILIAR = [name for name in SAMPLERS if not name.endswith("Scheduler")]
SPACINGS = ("Karras", "Exponential", "Beta")
SHAPE = (1, 4, 8, 8)
STEPS = 20

Model = Callable[[torch.Tensor, float], torch.Tensor]


def model(sample: torch.Tensor, timestep: float) -> torch.Tensor:
    """Not linear, and different at every timestep, so that a wrong history shows."""
    weights = torch.randn(256, 256, generator=torch.Generator().manual_seed(3)) / 16
    return torch.tanh((sample.reshape(1, -1) @ weights) * (1 + timestep / 1000)).reshape(SHAPE)


def normal(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def begun(scheduler: Any, begin: int) -> torch.Tensor:
    """The timesteps of a run from step `begin` on; the scheduler is told, as img2img does."""
    scheduler.set_timesteps(STEPS)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin * scheduler.order)
    return torch.as_tensor(scheduler.timesteps[begin * scheduler.order :])


def by_scheduler(scheduler: Any, begin: int | None) -> torch.Tensor:
    """The loop of diffusers' pipelines, float32."""
    if begin is None:
        scheduler.set_timesteps(STEPS)
        timesteps = scheduler.timesteps
        sample = normal(1) * scheduler.init_noise_sigma
    else:
        timesteps = begun(scheduler, begin)
        sample = scheduler.add_noise(normal(0), normal(1), timesteps[:1])
    generator = torch.Generator().manual_seed(9)
    extra = {"generator": generator} if _takes_generator(scheduler) else {}
    for timestep in timesteps:
        output = model(scheduler.scale_model_input(sample, timestep), float(timestep))
        sample = scheduler.step(output, timestep, sample, **extra, return_dict=False)[0]
    return torch.as_tensor(sample)


def by_table(table: StepTable) -> torch.Tensor:
    """The engine's arithmetic for one row, float32."""
    generator = torch.Generator().manual_seed(9)
    state = torch.zeros(table.buffers, 256)
    state[0] = (table.start[0] * normal(0) + table.start[1] * normal(1)).flatten()
    for call in range(table.calls):
        scaled = (state[0] * float(table.scales[call])).reshape(SHAPE)
        output = model(scaled, float(table.timesteps[call])).reshape(1, -1)
        draws = table.draws[call]
        noise = torch.randn(SHAPE, generator=generator) if draws else torch.zeros(SHAPE)
        inputs = torch.cat([state, output, noise.reshape(1, -1)])
        state = torch.from_numpy(table.matrices[call]) @ inputs
    return state[0].reshape(SHAPE)


def _takes_generator(scheduler: Any) -> bool:
    return "generator" in scheduler.step.__code__.co_varnames


@pytest.mark.parametrize(
    ("config", "strength"),
    [
        pytest.param(SAVED_BY_DDIM, None, id="ddim"),
        pytest.param(SAVED_BY_DPM_SOLVER, 0.5, id="dpm-solver-0.5"),
        pytest.param(SAVED_BY_DDIM, 0.5, id="ddim-0.5", marks=pytest.mark.slow),
        pytest.param(SAVED_BY_DPM_SOLVER, None, id="dpm-solver", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", SAMPLERS)
def test_table_equals_scheduler(name: str, config: dict[str, Any], strength: float | None) -> None:
    scheduler = make_scheduler(name, config)
    tables = StepTables(config)
    if strength is None:
        table, begin = tables.text_to_image(name, STEPS), None
    else:
        table = tables.image_to_image(name, STEPS, strength, inpaint=False)
        begin = STEPS - int(STEPS * strength)
    expected = by_scheduler(scheduler, begin)
    error = (by_table(table) - expected).norm() / expected.norm()
    assert error <= 1e-5, f"{name}: relative error {error:.1e}"


def noise_level(scheduler: Any, timestep: torch.Tensor) -> tuple[float, float]:
    """(a, b) of the sample a * clean + b * noise that the scheduler is in at this call."""
    kind = type(scheduler).__name__
    if "KDPM2" in kind and not scheduler.state_in_first_order:
        # add_noise knows only whole steps; of the middles, the two classes count differently.
        middle = scheduler.step_index - ("Ancestral" in kind)
        return 1.0, float(scheduler.sigmas_interpol[middle])
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    signal = scheduler.add_noise(one, zero, timestep[None])
    return float(signal), float(scheduler.add_noise(zero, one, timestep[None]))


def ideal_output(prediction_type: str, clean: Any, noise: Any, a: float, b: float) -> Any:
    """What a model that knows the clean latents says of a * clean + b * noise."""
    if prediction_type == "v_prediction":
        return (a * noise - b * clean) / np.hypot(a, b)
    return {"epsilon": noise, "sample": clean}[prediction_type]


OF_CLEAN_LATENTS = ("DDIM", "Euler Karras", "Heun", "DPM++ 2M", "DPM++ 2S", "UniPC", "SA-Solver")
"""Some of the samplers that take models which say the clean latents themselves."""


@pytest.mark.parametrize(
    ("name", "prediction_type", "strength"),
    [
        *((name, "epsilon", None) for name in FAMILIAR),
        *((name, "v_prediction", 0.5) for name in FAMILIAR if not name.endswith(SPACINGS)),
        *((name, "sample", 0.5) for name in OF_CLEAN_LATENTS),
    ],
)
def test_clean_latents_are_known_at_every_call(
    name: str, prediction_type: str, strength: float | None
) -> None:
    config = {**CONFIG, "prediction_type": prediction_type}
    scheduler, tables = make_scheduler(name, config), StepTables(config)
    table = (
        tables.text_to_image(name, STEPS)
        if strength is None
        else tables.image_to_image(name, STEPS, strength, inpaint=False)
    )
    clean, noise = normal(0).double(), normal(1).double()
    for i, timestep in enumerate(begun(scheduler, 0 if strength is None else STEPS // 2)):
        a, b = noise_level(scheduler, timestep)
        sample, output = a * clean + b * noise, ideal_output(prediction_type, clean, noise, a, b)
        known = float(table.clean[i, 0]) * sample + float(table.clean[i, 1]) * output
        assert (known - clean).abs().max() <= 1e-4, f"call {i}"
        scheduler.scale_model_input(sample, timestep)
        scheduler.step(output, timestep, sample)


@pytest.mark.parametrize(
    ("name", "calls", "calls_from_the_middle"),
    [("DDIM", 20, 14), ("Heun", 39, 27), ("DPM2 Karras", 39, 27), ("PLMS", 21, 15)],
)
def test_steps_are_not_calls(name: str, calls: int, calls_from_the_middle: int) -> None:
    tables = StepTables(CONFIG)
    assert tables.text_to_image(name, 20).calls == calls
    assert tables.image_to_image(name, 20, 0.7, inpaint=False).calls == calls_from_the_middle


@pytest.mark.parametrize("setting", ["clip_sample", "thresholding"])
@pytest.mark.parametrize("name", ["DDIM", "DDIMScheduler"])
def test_a_sampler_that_is_not_linear_is_refused_with_the_setting(name: str, setting: str) -> None:
    tables = StepTables({**CONFIG, setting: True})
    with pytest.raises(UnsupportedScheduler, match=f"{setting}: false") as caught:
        tables.text_to_image(name, 20)
    assert caught.value.param == "scheduler"


def test_a_step_count_that_a_sampler_cannot_run_is_refused() -> None:
    with pytest.raises(UnsupportedScheduler, match="scheduler LCM cannot run 60 steps"):
        StepTables(CONFIG).text_to_image("LCM", 60)


def test_timesteps_that_come_twice_are_run() -> None:
    """Where the first one does, diffusers' text-to-image pipelines fail at their last step."""
    table = StepTables(CONFIG).text_to_image("DPM++ 2M Beta", 50)
    assert table.timesteps[0] == table.timesteps[1]
    assert table.calls == 50


def test_tables_are_kept() -> None:
    tables = StepTables(CONFIG)
    assert tables.text_to_image("DDIM", 20) is tables.text_to_image("DDIM", 20)


def test_a_familiar_name_settles_what_a_class_name_leaves_to_the_model() -> None:
    config = {**CONFIG, "use_karras_sigmas": True, "algorithm_type": "sde-dpmsolver++"}
    plain, tables = StepTables(CONFIG), StepTables(config)
    for name in ("DPM++ 2M", "DPM++ 2M Exponential", "Euler"):
        wanted, found = plain.text_to_image(name, 20), tables.text_to_image(name, 20)
        np.testing.assert_array_equal(wanted.matrices, found.matrices)
    left = tables.text_to_image("DPMSolverMultistepScheduler", 20)
    wanted = plain.text_to_image("DPM++ 2M SDE Karras", 20)
    np.testing.assert_array_equal(wanted.matrices, left.matrices)


@pytest.mark.parametrize("name", sorted({each.scheduler for each in SAMPLERS.values()}))
def test_every_class_has_the_spacings_that_diffusers_has(name: str) -> None:
    has = "use_karras_sigmas" in inspect.signature(getattr(diffusers, name)).parameters
    settings = [each.overrides for each in SAMPLERS.values() if each.scheduler == name]
    assert any("use_karras_sigmas" in each for each in settings) == has


def test_every_scheduler_for_stable_diffusion_is_offered_or_left_out_on_purpose() -> None:
    known = {each.name for each in KarrasDiffusionSchedulers}
    assert known - set(SAMPLERS) == {"DPMSolverSDEScheduler", "EDMEulerScheduler"}


def test_the_names_load_no_torch() -> None:
    script = "import sys, deployments.diffusion.samplers; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
