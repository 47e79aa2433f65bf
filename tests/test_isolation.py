"""What goes wrong in a shared step fails the row that causes it, and nobody else."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from deployments.diffusion.engine import Engine
from deployments.diffusion.families.family import Family
from deployments.diffusion.isolation import isolate
from deployments.errors import EngineFailed, GenerationFailed, ReplicaLost
from tests.driving import drive, driven, pixels, wait_until_waiting
from tests.rows import make_row

Denoised = Callable[[torch.Tensor, torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]


class Faulty:
    """Stands before one of the family's methods and raises while `error` is set."""

    def __init__(self, method: Any) -> None:
        self._method = method
        self.error: Exception | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self.error is not None:
            raise self.error
        return self._method(*arguments)


@pytest.fixture(params=["encode_prompts", "denoise", "decode"])
def faulty(
    request: pytest.FixtureRequest,
    tiny_family: Family,
    monkeypatch: pytest.MonkeyPatch,
) -> Faulty:
    """Each stage of the engine's step in turn."""
    faulty = Faulty(getattr(tiny_family, request.param))
    monkeypatch.setattr(tiny_family, request.param, faulty)
    return faulty


def test_a_fault_fails_its_rows_and_the_engine_goes_on(tiny_family: Family, faulty: Faulty) -> None:
    with driven(tiny_family) as engine:
        faulty.error = RuntimeError("/secret/path: no such kernel")
        fail = [engine.submit(make_row(seed=seed)) for seed in range(6)]  # decoded four at a time
        wait_until_waiting(engine, 6)
        drive(engine, fail)
        for future in fail:
            with pytest.raises(EngineFailed, match="was lost through a fault here") as caught:
                future.result()
            assert "secret" not in str(caught.value)
        faulty.error = None
        works = engine.submit(make_row(seed=1))
        drive(engine, [works])
        assert works.result().model_calls == 6
        stats = engine.stats()
        assert (stats.failed, stats.finished, stats.running) == (6, 1, 0)


def test_newcomers_that_fail_leave_the_running_rows_alone(
    tiny_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = Faulty(tiny_family.encode_prompts)
    monkeypatch.setattr(tiny_family, "encode_prompts", faulty)
    with driven(tiny_family) as engine:
        runs = engine.submit(make_row(seed=1))
        wait_until_waiting(engine, 1)
        engine.step()
        faulty.error = RuntimeError("the newcomer is broken")
        fails = engine.submit(make_row(seed=2, prompt="never seen"))
        wait_until_waiting(engine, 1)
        drive(engine, [runs, fails])
        assert runs.result().seed == 1
        assert isinstance(fails.exception(), EngineFailed)


def test_a_fault_of_the_accelerator_ends_the_engine_and_answers_everyone(
    tiny_family: Family, faulty: Faulty
) -> None:
    faulty.error = torch.AcceleratorError("an illegal memory access")
    with driven(tiny_family) as engine:
        future = engine.submit(make_row(seed=1, num_inference_steps=1))
        wait_until_waiting(engine, 1)
        with pytest.raises(torch.AcceleratorError):
            engine.step()
        engine.close("the engine has died")
        assert isinstance(future.exception(), ReplicaLost)


def solo(family: Family, **changes: Any) -> Any:
    with driven(family) as engine:
        future = engine.submit(make_row(**changes))
        drive(engine, [future])
        return pixels(future.result())


def run_four(engine: Engine, **changes: Any) -> list[Any]:
    futures = [
        engine.submit(make_row(seed=seed, prompt=changes.get("prompt", {}).get(seed, "a house")))
        for seed in range(4)
    ]
    wait_until_waiting(engine, 4)
    drive(engine, futures)
    return futures


def without_memory(
    family: Family,
    monkeypatch: pytest.MonkeyPatch,
    lacks: Callable[[torch.Tensor, int], bool],
) -> list[int]:
    """Calls of the denoiser fail that `lacks` memory for their latents, or by their number from 1.

    The lanes of all calls so far.
    """
    denoise, seen = family.denoise, []

    def small(latents: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(len(latents))
        if lacks(latents, len(seen)):
            raise torch.OutOfMemoryError("tried to allocate 1 GiB")
        return denoise(latents, *rest)

    monkeypatch.setattr(family, "denoise", small)
    return seen


def test_out_of_memory_splits_the_batch_and_nobody_fails(
    tiny_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoise = tiny_family.denoise
    seen = without_memory(tiny_family, monkeypatch, lambda latents, _: len(latents) > 4)
    with driven(tiny_family) as engine:
        futures = run_four(engine)
        stats = engine.stats()
    assert seen[:3] == [8, 4, 4], "the same step, in halves"
    assert max(seen[3:]) == 4, "the capacity was lowered"
    assert (stats.failed, stats.finished, stats.splits, stats.parked) == (0, 4, 1, 2)
    assert all(future.result().model_calls == 6 for future in futures)
    monkeypatch.setattr(tiny_family, "denoise", denoise)
    for seed, future in enumerate(futures):
        alone = solo(tiny_family, seed=seed, prompt="a house")
        assert np.abs(pixels(future.result()) - alone).max() <= 1


def test_rows_that_run_out_of_memory_in_their_last_call_are_done(
    tiny_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = without_memory(tiny_family, monkeypatch, lambda _, number: number == 6)
    with driven(tiny_family) as engine:
        futures = run_four(engine)
        stats = engine.stats()
    assert seen == [8, 8, 8, 8, 8, 8, 4, 4]
    assert (stats.failed, stats.finished, stats.splits, stats.parked) == (0, 4, 1, 0)
    assert all(future.result().model_calls == 6 for future in futures)


def test_a_row_that_does_not_fit_alone_is_told_so(
    tiny_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_memory(tiny_family, monkeypatch, lambda latents, _: latents.shape[-1] > 8)
    with driven(tiny_family) as engine:
        fits = engine.submit(make_row(seed=1))
        large = engine.submit(make_row(seed=2, width=128))
        wait_until_waiting(engine, 2)
        drive(engine, [fits, large])
        assert fits.result().seed == 1
        with pytest.raises(GenerationFailed, match=r"128x64 needs more memory .* smaller size"):
            large.result()


def test_an_exception_is_narrowed_down_to_the_row_that_causes_it(
    tiny_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoise = tiny_family.denoise
    curse = tiny_family.tokenize("a curse", weighting=False, max_chunks=1)
    bad = tiny_family.encode_prompts(curse.chunks)["encoder_hidden_states"][0]

    def cursed(
        latents: torch.Tensor, timesteps: torch.Tensor, told: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        if any(torch.allclose(lane, bad, atol=1e-4) for lane in told["encoder_hidden_states"]):
            raise ValueError("this prompt cannot be run")
        return denoise(latents, timesteps, told)

    monkeypatch.setattr(tiny_family, "denoise", cursed)
    with driven(tiny_family) as engine:
        futures = run_four(engine, prompt={2: "a curse"})
        stats = engine.stats()
    assert (stats.failed, stats.finished, stats.parked) == (1, 3, 0)
    assert isinstance(futures[2].exception(), EngineFailed)
    assert [futures[seed].result().seed for seed in (0, 1, 3)] == [0, 1, 3]


def test_a_row_of_nan_fails_alone(tiny_family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    denoise = tiny_family.denoise

    def poisoned(latents: torch.Tensor, *rest: Any) -> torch.Tensor:
        output = denoise(latents, *rest)
        output[0] = torch.nan
        return output

    monkeypatch.setattr(tiny_family, "denoise", poisoned)
    with driven(tiny_family) as engine:
        first, second = (engine.submit(make_row(seed=seed)) for seed in (1, 2))
        wait_until_waiting(engine, 2)
        drive(engine, [first, second])
        with pytest.raises(GenerationFailed, match="not numbers"):
            first.result()
        assert second.result().seed == 2
    monkeypatch.setattr(tiny_family, "denoise", denoise)
    assert np.abs(pixels(second.result()) - solo(tiny_family, seed=2)).max() <= 1


@pytest.mark.parametrize("bad", [set(), {3}, {0, 6}, {0, 1, 2, 3, 4, 5, 6}])
def test_only_what_fails_alone_has_failed(bad: set[int]) -> None:
    done: list[int] = []

    def work(items: Any) -> None:
        if bad & set(items):
            raise ValueError(f"bad among {items}")
        done.extend(items)

    outcome = isolate(range(7), work)
    assert {fault.item for fault in outcome.faults} == bad
    assert sorted([*done, *bad]) == list(range(7))
    assert all("raise ValueError" in fault.trace for fault in outcome.faults)
