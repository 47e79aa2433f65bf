"""The engine without Ray: parity with diffusers, shared batches, cancellation, isolation."""

from collections.abc import Iterator

import numpy as np
import pytest

from deployments.diffusion.families.family import Family
from deployments.errors import ReplicaLost, Requeue, UnsupportedScheduler
from deployments.requests import PreparedImage, Row
from tests.driving import drive, driven, pixels, wait_until_waiting
from tests.rows import make_prepared, make_row

SHARED_SCHEDULERS = [
    "EulerDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "DDIMScheduler",
]


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


def test_a_mixed_batch_gives_each_row_its_own_picture(tiny_family: Family) -> None:
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


def test_rows_join_and_leave_a_running_batch(tiny_family: Family) -> None:
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


def test_a_short_row_takes_the_place_of_a_long_one(tiny_family: Family) -> None:
    row = make_row(seed=1, num_inference_steps=40)
    with driven(tiny_family) as engine:
        alone = engine.submit(row)
        drive(engine, [alone])
    with driven(tiny_family, lane_buckets=(1, 2)) as engine:
        long = engine.submit(row)
        wait_until_waiting(engine, 1)
        for _ in range(3):
            engine.step()
        short = engine.submit(make_row(seed=2, num_inference_steps=4))
        wait_until_waiting(engine, 1)
        for _ in range(4):
            engine.step()
        stats = engine.stats()
        assert (stats.row_steps, stats.parked, stats.finished) == (3 + 4, 1, 1)
        drive(engine, [short, long])
        assert engine.stats().row_steps == 44
    assert np.abs(pixels(long.result()) - pixels(alone.result())).max() <= 1


def test_sizes_run_side_by_side(tiny_family: Family) -> None:
    with driven(tiny_family) as engine:
        futures = [
            engine.submit(make_row(seed=1, width=64, height=64)),
            engine.submit(make_row(seed=2, width=32, height=96)),
        ]
        drive(engine, futures)
        assert [(f.result().width, f.result().height) for f in futures] == [(64, 64), (32, 96)]
        assert pixels(futures[1].result()).shape == (96, 32, 3)


def test_capacity_in_lanes_is_never_exceeded(tiny_family: Family) -> None:
    with driven(tiny_family, lane_buckets=(1, 2, 4)) as engine:
        futures = [engine.submit(make_row(seed=seed)) for seed in range(5)]
        wait_until_waiting(engine, 5)
        drive(engine, futures)
        stats = engine.stats()
    assert stats.max_rows == 2
    assert stats.lane_steps <= 4 * stats.steps


def test_a_full_queue_answers_requeue(tiny_family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    # Six calls of two lanes at 10 ms are 0.12 s. The first row fills the two lanes there are, two
    # more may wait, and the fourth exceeds the bound.
    with driven(tiny_family, max_queue_s=0.3, lane_buckets=(1, 2)) as engine:
        monkeypatch.setattr(engine._capacity, "observe", lambda *_: None)  # 10 ms they stay
        futures = [engine.submit(make_row(seed=0))]
        wait_until_waiting(engine, 1)
        engine.step()
        futures += [engine.submit(make_row(seed=seed)) for seed in (1, 2, 3)]
        with pytest.raises(Requeue, match=r"at most 0\.3 s may"):
            futures[3].result(timeout=60)
        drive(engine, futures)
        assert engine.stats().requeued == 1


def test_what_a_row_cannot_do_is_its_own_error(tiny_family: Family) -> None:
    with driven(tiny_family) as engine:
        good = engine.submit(make_row(seed=1))
        bad = engine.submit(make_row(seed=2, scheduler="LCMScheduler", num_inference_steps=60))
        drive(engine, [good, bad])
        assert good.result().seed == 1
        with pytest.raises(UnsupportedScheduler, match="cannot run 60 steps"):
            bad.result()


def test_many_sizes_share_one_capacity(tiny_family: Family) -> None:
    with driven(tiny_family, lane_buckets=(1, 2, 4)) as engine:
        futures = [engine.submit(make_row(seed=w, width=w, height=64)) for w in (32, 64, 96, 128)]
        wait_until_waiting(engine, 4)
        while not all(future.done() for future in futures):
            assert engine.stats().running <= 2
            if not engine.step():
                break
        drive(engine, futures)
        assert [future.result().width for future in futures] == [32, 64, 96, 128]


def test_a_mask_keeps_the_unpainted_region(tiny_family: Family) -> None:
    prepared = make_prepared(3, masked=True)
    with driven(tiny_family) as engine:
        future = engine.submit(make_row(strength=1.0), prepared)
        drive(engine, [future])
    original = np.rint((prepared.pixels.transpose(1, 2, 0) + 1) * 127.5)
    difference = np.abs(pixels(future.result()) - original)
    assert difference[:, :32].max() == 0
    assert difference[:, 40:].mean() > 5


def test_closing_fails_what_still_waits(tiny_family: Family) -> None:
    with driven(tiny_family) as engine:
        future = engine.submit(make_row())
        wait_until_waiting(engine, 1)
    with pytest.raises(ReplicaLost, match="shutting down"):
        future.result()
    with pytest.raises(ReplicaLost, match="shutting down"):
        engine.submit(make_row()).result()
