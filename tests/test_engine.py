"""The engine without Ray: parity with diffusers, shared batches, cancellation, isolation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)

from deployments.diffusion.families.stable_diffusion import StableDiffusion
from deployments.diffusion.sampling import SCHEDULERS
from deployments.errors import EngineFailed, GenerationFailed, Requeue, UnsupportedScheduler
from deployments.requests import PreparedImage, Row
from tests.driving import drive, driven, make_prepared, make_row, pixels, wait_until_waiting

SHARED_SCHEDULERS = [
    "EulerDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "DDIMScheduler",
]


@pytest.fixture
def decoded(tiny_family: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The latents that the engine hands to the decoder, picture by picture."""
    seen: list[torch.Tensor] = []
    decode = tiny_family.decode

    def record(latents: torch.Tensor) -> torch.Tensor:
        seen.extend(latents.clone())
        return decode(latents)

    monkeypatch.setattr(tiny_family, "decode", record)
    return seen


def by_pipeline(family: StableDiffusion, row: Row, prepared: PreparedImage | None) -> torch.Tensor:
    """The same row by the diffusers pipeline itself: final latents (4, 8, 8)."""
    import diffusers

    components = {**family._pipeline.components}
    config = {**family.scheduler_config, **SCHEDULERS[row.scheduler]}
    components["scheduler"] = getattr(diffusers, row.scheduler).from_config(config)
    arguments: dict[str, Any] = {
        "prompt": row.prompt,
        "negative_prompt": row.negative_prompt,
        "num_inference_steps": row.num_inference_steps,
        "guidance_scale": row.guidance_scale,
        "generator": torch.Generator().manual_seed(row.seed),
        "output_type": "latent",
    }
    if row.scheduler == "TCDScheduler":  # its own default, which the pipelines override with 0
        arguments["eta"] = 0.3
    kind: Any = StableDiffusionPipeline
    if prepared is not None:
        kind = StableDiffusionImg2ImgPipeline
        arguments |= {"image": torch.tensor(prepared.pixels)[None], "strength": row.strength}
    if prepared is not None and prepared.mask is not None:
        kind = StableDiffusionInpaintPipeline
        arguments |= {"mask_image": torch.tensor(prepared.mask)[None, None]}
        arguments |= {"width": row.width, "height": row.height}
    pipeline = kind(**components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    latents: torch.Tensor = pipeline(**arguments).images[0]
    return latents


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(
    ("strength", "masked"), [(None, False), (0.7, False), (0.3, False), (0.7, True), (1.0, True)]
)
def test_latents_equal_the_diffusers_pipelines(
    tiny_family: StableDiffusion,
    decoded: list[torch.Tensor],
    scheduler: str,
    strength: float | None,
    masked: bool,
) -> None:
    row = make_row(scheduler=scheduler, seed=5, strength=strength, num_inference_steps=10)
    prepared = None if strength is None else make_prepared(1, masked=masked)
    with driven(tiny_family) as engine:
        future = engine.submit(row, prepared)
        drive(engine, [future])
        future.result()
    expected = by_pipeline(tiny_family, row, prepared)
    error = (decoded[0] - expected).norm() / expected.norm()
    assert error <= 1e-4, f"relative error {error:.1e}"


def mixed_rows() -> Iterator[tuple[Row, PreparedImage | None]]:
    """Eight rows that differ in everything a row may differ in."""
    for seed, steps in enumerate((8, 20, 30, 50, 8, 20, 30, 50)):
        prepared = make_prepared(seed, masked=seed == 5) if seed > 3 else None
        yield (
            make_row(
                seed=seed,
                prompt=f"house number {seed}",
                negative_prompt="blurred" if seed % 2 else "",
                num_inference_steps=steps,
                scheduler=SHARED_SCHEDULERS[seed % 4],
                guidance_scale=(1.0, 3.0, 7.5)[seed % 3],
                strength=0.5 if prepared else None,
            ),
            prepared,
        )


def test_a_mixed_batch_gives_each_row_its_own_picture(tiny_family: StableDiffusion) -> None:
    wanted = list(mixed_rows())
    with driven(tiny_family) as engine:
        futures = [engine.submit(row, prepared) for row, prepared in wanted]
        wait_until_waiting(engine, len(wanted))
        drive(engine, futures)
        together = [pixels(future.result()) for future in futures]
        shared = engine.stats()
    assert shared.max_rows == 8
    assert shared.steps < shared.row_steps / 2
    assert shared.finished == 8
    for (row, prepared), picture in zip(wanted, together, strict=True):
        with driven(tiny_family) as engine:
            alone = engine.submit(row, prepared)
            drive(engine, [alone])
            assert engine.stats().max_rows == 1
        assert np.abs(picture - pixels(alone.result())).max() <= 1


def test_rows_join_and_leave_a_running_batch(tiny_family: StableDiffusion) -> None:
    with driven(tiny_family) as engine:
        long = engine.submit(make_row(seed=1, num_inference_steps=12))
        wait_until_waiting(engine, 1)
        for _ in range(3):
            engine.step()
        short = engine.submit(make_row(seed=2, num_inference_steps=3))
        wait_until_waiting(engine, 1)
        drive(engine, [short])
        assert not long.done()
        drive(engine, [long])
        assert engine.stats().steps == 12  # the short row's three steps were shared


def test_sizes_run_side_by_side(tiny_family: StableDiffusion) -> None:
    with driven(tiny_family) as engine:
        futures = [
            engine.submit(make_row(seed=1, width=64, height=64)),
            engine.submit(make_row(seed=2, width=32, height=96)),
        ]
        drive(engine, futures)
        assert [(f.result().width, f.result().height) for f in futures] == [(64, 64), (32, 96)]
        assert pixels(futures[1].result()).shape == (96, 32, 3)


def test_capacity_in_lanes_is_never_exceeded(tiny_family: StableDiffusion) -> None:
    with driven(tiny_family, lane_buckets=(1, 2, 4)) as engine:
        futures = [engine.submit(make_row(seed=seed)) for seed in range(5)]
        wait_until_waiting(engine, 5)
        drive(engine, futures)
        stats = engine.stats()
    assert stats.max_rows == 2
    assert stats.lane_steps <= 4 * stats.steps


def test_a_cancelled_row_is_out_before_the_next_step(tiny_family: StableDiffusion) -> None:
    with driven(tiny_family) as engine:
        stays, goes = (engine.submit(make_row(seed=seed)) for seed in (1, 2))
        wait_until_waiting(engine, 2)
        engine.step()
        assert engine.stats().running == 2
        assert goes.cancel()
        engine.step()
        assert engine.stats().running == 1
        waiting = engine.submit(make_row(seed=3))
        wait_until_waiting(engine, 1)
        assert waiting.cancel()
        drive(engine, [stays])
        stats = engine.stats()
    assert (stats.cancelled, stats.finished, stats.failed) == (2, 1, 0)
    assert stats.row_steps == 7  # six of the row that stayed, one of the row that left


def test_a_full_queue_answers_requeue(tiny_family: StableDiffusion) -> None:
    # Six calls of two lanes at 10 ms are 0.12 s. The first row fills the two lanes there are, two
    # more may wait, and the fourth exceeds the bound.
    with driven(tiny_family, max_queue_s=0.3, lane_buckets=(1, 2)) as engine:
        futures = [engine.submit(make_row(seed=0))]
        wait_until_waiting(engine, 1)
        engine.step()
        futures += [engine.submit(make_row(seed=seed)) for seed in (1, 2, 3)]
        with pytest.raises(Requeue, match=r"at most 0\.3 s may"):
            futures[3].result(timeout=60)
        drive(engine, futures)
        assert engine.stats().requeued == 1


def test_what_a_row_cannot_do_is_its_own_error(tiny_family: StableDiffusion) -> None:
    with driven(tiny_family) as engine:
        good = engine.submit(make_row(seed=1))
        bad = engine.submit(make_row(seed=2, scheduler="LCMScheduler", num_inference_steps=60))
        drive(engine, [good, bad])
        assert good.result().seed == 1
        with pytest.raises(UnsupportedScheduler, match="cannot run 60 steps"):
            bad.result()


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
    tiny_family: StableDiffusion,
    monkeypatch: pytest.MonkeyPatch,
) -> Faulty:
    """Each stage of the engine's step in turn."""
    faulty = Faulty(getattr(tiny_family, request.param))
    monkeypatch.setattr(tiny_family, request.param, faulty)
    return faulty


def test_a_fault_fails_its_rows_and_the_engine_goes_on(
    tiny_family: StableDiffusion, faulty: Faulty
) -> None:
    with driven(tiny_family, lane_buckets=(1, 2, 4, 8, 16)) as engine:
        faulty.error = torch.OutOfMemoryError("/secret/path: out of memory")
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
    tiny_family: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = Faulty(tiny_family.encode_prompts)
    monkeypatch.setattr(tiny_family, "encode_prompts", faulty)
    with driven(tiny_family) as engine:
        runs = engine.submit(make_row(seed=1))
        wait_until_waiting(engine, 1)
        engine.step()
        faulty.error = RuntimeError("no memory for the newcomer")
        fails = engine.submit(make_row(seed=2, prompt="never seen"))
        wait_until_waiting(engine, 1)
        drive(engine, [runs, fails])
        assert runs.result().seed == 1
        assert isinstance(fails.exception(), EngineFailed)


def test_a_fault_of_the_accelerator_ends_the_engine_and_answers_everyone(
    tiny_family: StableDiffusion, faulty: Faulty
) -> None:
    faulty.error = torch.AcceleratorError("an illegal memory access")
    with driven(tiny_family) as engine:
        future = engine.submit(make_row(seed=1, num_inference_steps=1))
        wait_until_waiting(engine, 1)
        with pytest.raises(torch.AcceleratorError):
            engine.step()
        assert isinstance(future.exception(), EngineFailed)


def test_many_sizes_share_one_capacity(tiny_family: StableDiffusion) -> None:
    with driven(tiny_family, lane_buckets=(1, 2, 4)) as engine:
        futures = [engine.submit(make_row(seed=w, width=w, height=64)) for w in (32, 64, 96, 128)]
        wait_until_waiting(engine, 4)
        while not all(future.done() for future in futures):
            assert engine.stats().running <= 2
            if not engine.step():
                break
        drive(engine, futures)
        assert [future.result().width for future in futures] == [32, 64, 96, 128]


def test_a_row_of_nan_fails_alone(
    tiny_family: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_mask_keeps_the_unpainted_region(tiny_family: StableDiffusion) -> None:
    prepared = make_prepared(3, masked=True)
    with driven(tiny_family) as engine:
        future = engine.submit(make_row(strength=1.0), prepared)
        drive(engine, [future])
    original = np.rint((prepared.pixels.transpose(1, 2, 0) + 1) * 127.5)
    difference = np.abs(pixels(future.result()) - original)
    assert difference[:, :32].max() == 0
    assert difference[:, 40:].mean() > 5


def test_closing_fails_what_still_waits(tiny_family: StableDiffusion) -> None:
    with driven(tiny_family) as engine:
        future = engine.submit(make_row())
        wait_until_waiting(engine, 1)
    with pytest.raises(EngineFailed, match="shutting down"):
        future.result()
    with pytest.raises(EngineFailed, match="shutting down"):
        engine.submit(make_row()).result()
