"""Replicas of a model behind one of the routers, and one trace through them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from ray import serve

from deployments.diffusion.deployment import Diffusion
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.stats import EngineStats

from .callers import Caller, Callers, Visit
from .routers import serve_options
from .trace import CALLERS, Job

APP, MODEL = "routing", "diffusion-bench"
LEAD_S = 1.0
"""Between the call and the first arrival, so that every caller has its rows."""


class Record(msgspec.Struct, kw_only=True):
    """What one trace gave."""

    visits: list[Visit]
    wall_s: float
    """Until the last picture."""
    requeued: int
    """How often a replica gave a row back."""
    adapter_reads: int
    adapter_switches: int


class Fleet:
    """What is deployed."""

    def __init__(self, callers: Any) -> None:
        self._callers = callers
        self._model: Any = serve.get_deployment_handle(MODEL, APP)

    def replay(self, jobs: Sequence[Job], per_s: float) -> Record:
        """Sends them all and waits for the last."""
        before = self._stats()
        begin = time.time() + LEAD_S
        visits = self._callers.replay.remote(jobs, per_s, begin).result()
        wall_s = time.time() - begin
        after = self._stats()

        def gained(name: str) -> int:
            return _total(after, name) - _total(before, name)

        return Record(
            visits=visits,
            wall_s=wall_s,
            requeued=gained("requeued"),
            adapter_reads=gained("adapter_reads"),
            adapter_switches=gained("adapter_switches"),
        )

    def _stats(self) -> list[EngineStats]:
        found: list[EngineStats] = self._model.broadcast("stats").results()
        return found


@contextmanager
def deployed(settings: DiffusionSettings, *, router: str, replicas: int) -> Iterator[Fleet]:
    """On a Serve that runs; gone at the end."""
    deployment: Any = serve.deployment  # to mypy it makes nothing that can be bound
    model = deployment(name=MODEL, **serve_options(router, replicas))(Diffusion).bind(settings)
    light = {"ray_actor_options": {"num_cpus": 0.25}, "graceful_shutdown_wait_loop_s": 0.1}
    callers = [
        deployment(name=f"caller-{number}", **light)(Caller).bind(model)
        for number in range(CALLERS)
    ]
    graph = deployment(name="callers", **light)(Callers).bind(*callers)
    try:
        yield Fleet(serve.run(graph, name=APP, route_prefix=None))
    finally:
        serve.delete(APP)


def _total(stats: Sequence[EngineStats], name: str) -> int:
    """Of a counter, over all replicas."""
    return sum(int(getattr(each, name)) for each in stats)
