"""Cancelling a row at every stage frees its lanes within one step, and leaves nothing behind."""

import gc
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from deployments.diffusion.engine import Engine
from deployments.diffusion.families.family import Family
from deployments.diffusion.run import Run
from tests.driving import drive, driven, wait_until_waiting
from tests.rows import make_prepared, make_row


def test_a_cancelled_row_is_out_before_the_next_step(tiny_family: Family) -> None:
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


def before_encoding(engine: Engine) -> Future[Any]:
    """With one long row running, two images are encoded one after the other."""
    engine.submit(make_row(seed=8, num_inference_steps=50))
    first = engine.submit(make_row(seed=1, strength=0.9), make_prepared(1))
    wait_until_waiting(engine, 2)
    engine.step()
    second = engine.submit(make_row(seed=2, strength=0.9), make_prepared(2))
    third = engine.submit(make_row(seed=3, strength=0.9), make_prepared(3))
    wait_until_waiting(engine, 2)
    engine.step()
    waiting = {run.row.seed: run for run in engine._newcomers.runs}
    assert len(waiting) == 1, "one image was encoded, the other waits for the next step"
    assert not first.done()
    return second if 2 in waiting else third


def before_decoding(engine: Engine) -> Future[Any]:
    """With one long row running, two that are sampled are decoded one after the other."""
    engine.submit(make_row(seed=8, num_inference_steps=50))
    futures = [engine.submit(make_row(seed=seed, num_inference_steps=3)) for seed in (1, 2)]
    wait_until_waiting(engine, 3)
    while not engine._finisher.members:
        engine.step()
    (left,) = engine._finisher.members
    return futures[left.run.row.seed - 1]


@pytest.mark.parametrize("stage", [before_encoding, before_decoding])
def test_between_the_stages_too(
    tiny_family: Family,
    monkeypatch: pytest.MonkeyPatch,
    stage: Callable[[Engine], Future[Any]],
) -> None:
    with driven(tiny_family) as engine:
        monkeypatch.setattr(engine, "_affordable", lambda each_s: 1)
        goes = stage(engine)
        assert goes.cancel()
        engine.step()
        between = [*engine._newcomers.runs, *(m.run for m in engine._finisher.members)]
        assert not any(run.ticket.future is goes for run in between)
        assert engine.stats().cancelled == 1


def test_a_thousand_cancels_leave_nothing_behind(tiny_family: Family) -> None:
    with driven(tiny_family) as engine:
        for seed in range(250):
            futures = [
                engine.submit(make_row(seed=4 * seed + i, num_inference_steps=4 + i))
                for i in range(4)
            ]
            wait_until_waiting(engine, 4)
            for future in futures:
                engine.step()
                assert future.cancel()
        engine.step()
        del futures, future
        stats = engine.stats()
        gc.collect()
        assert not [found for found in gc.get_objects() if type(found) is Run]
        assert (stats.cancelled, stats.finished, stats.running, stats.waiting) == (1000, 0, 0, 0)
        assert not engine._running.runs
