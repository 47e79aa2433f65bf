"""Guidance per row: its scale, its rescaling and its interval, against diffusers' own pipeline."""

from typing import Any

import pytest
import torch

from deployments.diffusion.families.family import Family
from deployments.requests import Row
from tests.driving import drive, driven, wait_until_waiting
from tests.pipelines import by_pipeline
from tests.rows import make_row

STEPS = 10


@pytest.fixture
def decoded(tiny_family: Family, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The latents that the engine hands to the decoder, picture by picture."""
    seen: list[torch.Tensor] = []
    decode = tiny_family.decode

    def record(latents: torch.Tensor) -> torch.Tensor:
        seen.extend(latents.clone())
        return decode(latents)

    monkeypatch.setattr(tiny_family, "decode", record)
    return seen


def guided_by_pipeline(family: Family, row: Row) -> torch.Tensor:
    """The same row by diffusers; guidance is switched off in the way its documentation shows."""
    last = round(row.guidance_end * STEPS)

    def end_guidance(pipe: Any, step: int, _: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step + 1 == last and last < STEPS:
            tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[-1]
            pipe._guidance_scale = 0.0
        return tensors

    return by_pipeline(
        family,
        row,
        guidance_rescale=row.guidance_rescale,
        callback_on_step_end=end_guidance,
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"guidance_scale": 7.5},
        {"guidance_scale": 1.0},
        {"guidance_rescale": 0.7, "guidance_scale": 9.0},
        {"guidance_end": 0.4},
    ],
)
def test_latents_equal_the_pipeline(
    tiny_family: Family, decoded: list[torch.Tensor], changes: dict[str, Any]
) -> None:
    row = make_row(seed=3, num_inference_steps=STEPS, negative_prompt="fog", **changes)
    with driven(tiny_family) as engine:
        # Beside it a row of every other kind, so that lanes and numbers could be mixed up.
        others = [
            engine.submit(make_row(seed=seed, num_inference_steps=STEPS, **other))
            for seed, other in enumerate(
                ({"guidance_scale": 1.0}, {"guidance_start": 0.5}, {"guidance_rescale": 1.0})
            )
        ]
        future = engine.submit(row)
        wait_until_waiting(engine, 4)
        drive(engine, [*others, future])
    expected = guided_by_pipeline(tiny_family, row)
    error = min((latents - expected).norm() / expected.norm() for latents in decoded)
    assert error <= 1e-4, f"relative error {error:.1e}"


def test_outside_its_interval_a_row_gives_its_second_lane_back(
    tiny_family: Family,
) -> None:
    with driven(tiny_family) as engine:
        row = make_row(num_inference_steps=STEPS, guidance_start=0.2, guidance_end=0.5)
        future = engine.submit(row)
        wait_until_waiting(engine, 1)
        lanes = []
        for _ in range(STEPS):
            before = engine.stats().lane_steps
            engine.step()
            lanes.append(engine.stats().lane_steps - before)
        drive(engine, [future])
    assert lanes == [1, 1, 2, 2, 2, 1, 1, 1, 1, 1]


def test_a_lane_given_back_is_taken_at_once(tiny_family: Family) -> None:
    with driven(tiny_family, lane_buckets=(1, 2)) as engine:
        first = engine.submit(make_row(seed=1, num_inference_steps=STEPS, guidance_end=0.5))
        wait_until_waiting(engine, 1)
        engine.step()
        second = engine.submit(make_row(seed=2, num_inference_steps=STEPS, guidance_scale=1.0))
        wait_until_waiting(engine, 1)
        running = []
        for _ in range(STEPS - 1):
            engine.step()
            running.append(engine.stats().running)
        assert running[:5] == [1, 1, 1, 1, 2]
        drive(engine, [first, second])


def test_a_lane_that_will_be_needed_is_not_given_away(tiny_family: Family) -> None:
    with driven(tiny_family, lane_buckets=(1, 2)) as engine:
        first = engine.submit(make_row(seed=1, num_inference_steps=STEPS, guidance_start=0.5))
        second = engine.submit(make_row(seed=2, num_inference_steps=STEPS, guidance_scale=1.0))
        wait_until_waiting(engine, 2)
        drive(engine, [first, second])
        assert engine.stats().max_rows == 1
        assert engine.stats().lane_steps == 15 + 10
