"""Tables of step matrices against the diffusers schedulers they were read off."""

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch

from deployments.diffusion.sampling import SCHEDULERS, StepTable, StepTables
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
SHAPE = (1, 4, 8, 8)
STEPS = 20

Model = Callable[[torch.Tensor, float], torch.Tensor]


def model(sample: torch.Tensor, timestep: float) -> torch.Tensor:
    """Not linear, and different at every timestep, so that a wrong history shows."""
    weights = torch.randn(256, 256, generator=torch.Generator().manual_seed(3)) / 16
    return torch.tanh((sample.reshape(1, -1) @ weights) * (1 + timestep / 1000)).reshape(SHAPE)


def normal(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def by_scheduler(scheduler: Any, begin: int | None) -> torch.Tensor:
    """The loop of diffusers' pipelines, float32."""
    scheduler.set_timesteps(STEPS)
    timesteps = scheduler.timesteps
    sample = normal(1) * scheduler.init_noise_sigma
    if begin is not None:
        timesteps = timesteps[begin * scheduler.order :]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin * scheduler.order)
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


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in SCHEDULERS),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("strength", [None, 0.7, 0.3])
@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_table_equals_scheduler(
    name: str, changes: dict[str, Any], strength: float | None, prediction_type: str
) -> None:
    config = {**CONFIG, **changes, "prediction_type": prediction_type}
    scheduler = getattr(diffusers, name).from_config({**config, **SCHEDULERS[name]})
    tables = StepTables(config)
    if strength is None:
        table, begin = tables.text_to_image(name, STEPS), None
    else:
        table = tables.image_to_image(name, STEPS, strength, inpaint=False)
        begin = STEPS - int(STEPS * strength)
    expected = by_scheduler(scheduler, begin)
    error = (by_table(table) - expected).norm() / expected.norm()
    assert error <= 1e-5, f"{name}: relative error {error:.1e}"


@pytest.mark.parametrize(
    ("name", "calls", "calls_from_the_middle"),
    [
        ("DDIMScheduler", 20, 14),
        ("HeunDiscreteScheduler", 39, 27),
        ("KDPM2DiscreteScheduler", 39, 27),
        ("PNDMScheduler", 21, 15),
    ],
)
def test_steps_are_not_calls(name: str, calls: int, calls_from_the_middle: int) -> None:
    tables = StepTables(CONFIG)
    assert tables.text_to_image(name, 20).calls == calls
    assert tables.image_to_image(name, 20, 0.7, inpaint=False).calls == calls_from_the_middle


@pytest.mark.parametrize("setting", ["clip_sample", "thresholding"])
def test_a_scheduler_that_is_not_linear_is_refused_with_the_setting(setting: str) -> None:
    tables = StepTables({**CONFIG, setting: True})
    with pytest.raises(UnsupportedScheduler, match=f"{setting}: false") as caught:
        tables.text_to_image("DDIMScheduler", 20)
    assert caught.value.param == "scheduler"


def test_a_step_count_that_a_scheduler_cannot_run_is_refused() -> None:
    with pytest.raises(UnsupportedScheduler, match="LCMScheduler cannot run 60 steps"):
        StepTables(CONFIG).text_to_image("LCMScheduler", 60)


def test_tables_are_kept() -> None:
    tables = StepTables(CONFIG)
    assert tables.text_to_image("DDIMScheduler", 20) is tables.text_to_image("DDIMScheduler", 20)
