"""The engine, stepped by this thread while another one asks for pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from batching.load import Outcome, closed_loop
from batching.records import percentile
from batching.spans import ModelClock
from batching.stepwise import denoiser, system_of
from batching.trace import Form, Job, bench_row
from torch.profiler import ProfilerActivity, profile

from deployments.diffusion.engine import Engine
from deployments.diffusion.loading import start_engine
from deployments.diffusion.settings import DiffusionSettings

from .kernels import idle_share, kernel_spans
from .models import Model
from .plan import Row
from .rig import Rig
from .timing import peak_mib

WAITING_BATCHES = 2
"""Full batches of pictures in the engine at saturation, the one that runs included."""
PROFILED_BATCHES = 2
"""Full batches whose kernels are watched."""


@dataclass(slots=True)
class _Running:
    """A warm engine."""

    engine: Engine
    clock: ModelClock
    """Of everything that its model does."""
    model: Model
    scheduler: str
    warm_up_s: float
    numbers: Iterator[int] = field(default_factory=count)
    """No job twice, so that no prompt is known already."""

    def pictures(self, jobs: int, *, in_flight: int) -> Outcome:
        """So many pictures, of which so many are always asked for. Raises RuntimeError if any is
        not made."""
        rows = [self._job(next(self.numbers)) for _ in range(jobs)]
        with ThreadPoolExecutor(1) as client:
            loop = client.submit(closed_loop, system_of(self.engine), rows, in_flight=in_flight)
            loop.add_done_callback(lambda _: self.engine.wake())
            try:
                while not loop.done():
                    if not self.engine.step():
                        self.engine.wait_for_work(loop.done)
            except BaseException:
                self.engine.close()  # answers the client, which waits
                raise
        outcome = loop.result()
        if outcome.failed:
            raise RuntimeError(f"{outcome.failed} of {jobs} pictures failed; the log says why")
        return outcome

    def _job(self, number: int) -> Job:
        model = self.model
        row = bench_row(
            f"gpu-{number}",
            Form(model.side, self.scheduler),
            0,
            number,
            steps=model.steps,
            guidance_scale=model.guidance,
        )
        return Job(number, 0.0, row)


@contextmanager
def saturated(rig: Rig, row: Row) -> Iterator[Callable[[], dict[str, float]]]:
    """More pictures are always asked for than run at once; p50 has their waiting in it.

    `outside_model_share` is the time in no call of the model, where a compiled step counts as one
    call, with what the engine does in it and the gaps between its kernels. `no_kernel_share`, on
    CUDA only, is the time without any kernel, of pictures made after those that are timed.
    """
    lanes = rig.model(row).lanes
    with _running(rig, row, rig.settings(row, lanes)) as running:
        rows = lanes // _lanes_of_a_row(running.model)

        def work() -> dict[str, float]:
            before = running.engine.stats()
            running.clock.reset()
            jobs, in_flight = rig.effort.batches * rows, WAITING_BATCHES * rows
            outcome = running.pictures(jobs, in_flight=in_flight)
            after = running.engine.stats()
            return {
                "images_per_s": outcome.finished / outcome.wall_s,
                "image_s": outcome.wall_s / outcome.finished,
                "p50_s": _p50_s(outcome),
                "outside_model_share": 1 - running.clock.model_s() / outcome.occupied_s,
                "lanes_per_step": (after.lane_steps - before.lane_steps)
                / (after.steps - before.steps),
                "warm_up_s": running.warm_up_s,
                **peak_mib(rig.device),
                **(_no_kernel_share(running, rows) if rig.device.type == "cuda" else {}),
            }

        running.pictures(rows, in_flight=rows)
        yield work


@contextmanager
def alone(rig: Rig, row: Row) -> Iterator[Callable[[], dict[str, float]]]:
    """One picture at a time: from the request to the file."""
    with _running(rig, row, rig.settings(row, _lanes_of_a_row(rig.model(row)))) as running:

        def work() -> dict[str, float]:
            outcome = running.pictures(rig.effort.pictures, in_flight=1)
            warm_up_s = running.warm_up_s
            return {"p50_s": _p50_s(outcome), "warm_up_s": warm_up_s, **peak_mib(rig.device)}

        running.pictures(1, in_flight=1)
        yield work


@contextmanager
def _running(rig: Rig, row: Row, settings: DiffusionSettings) -> Iterator[_Running]:
    family, clock = rig.family(row), ModelClock(rig.device)
    kind = type(family)
    watched = [denoiser(settings, kind), (kind, "encode_prompts"), (kind, "decode")]
    with clock.watching(*watched):
        begun_s = time.perf_counter()
        engine, card = start_engine(family, settings)
        warm_up_s = time.perf_counter() - begun_s
        try:
            yield _Running(engine, clock, rig.model(row), card.default_scheduler, warm_up_s)
        finally:
            engine.close()


def _no_kernel_share(running: _Running, rows: int) -> dict[str, float]:
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        running.pictures(PROFILED_BATCHES * rows, in_flight=WAITING_BATCHES * rows)
    return {"no_kernel_share": idle_share(kernel_spans(profiler))}


def _lanes_of_a_row(model: Model) -> int:
    return 2 if model.family.has_second_lane else 1


def _p50_s(outcome: Outcome) -> float:
    found = percentile([seconds for _, seconds in outcome.latencies], 50)
    assert found is not None
    return found
