"""Our engine, as the load drives it: rows go in at their arrival, in whatever mix."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from deployments.diffusion.batch import Batch
from deployments.diffusion.engine import Engine
from deployments.diffusion.families.family import Family
from deployments.diffusion.families.stable_diffusion import StableDiffusion
from deployments.diffusion.progress import Reporter
from deployments.diffusion.run import Watcher
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.worker import EngineWorker

from .systems import Picture, System, Work
from .trace import Job

PREVIEW_EVERY = 5
"""Model calls between two previews of a job that is watched."""

TELLING = (Reporter, "stepped")
"""The method that tells the watchers, for a clock."""


@contextmanager
def opened(settings: DiffusionSettings, *, watched: bool = False) -> Iterator[System]:
    """A warm engine on its own thread. `watched`: every job is told of, with previews."""
    watcher = Watcher(lambda _: None, PREVIEW_EVERY) if watched else None
    with EngineWorker(settings) as worker:
        yield system_of(worker.engine, watcher)


def system_of(engine: Engine, watcher: Watcher | None = None) -> System:
    """An engine that somebody steps."""

    def submit(job: Job) -> Future[Picture]:
        # An ImageResult is a Picture; Future is invariant in what it holds.
        return engine.submit(job.row, job.image, watcher=watcher)  # type: ignore[return-value]

    def work() -> Work:
        stats = engine.stats()
        return Work(stats.steps, stats.lane_steps)

    return System(submit, work)


def denoiser(
    settings: DiffusionSettings, family: type[Family] = StableDiffusion
) -> tuple[type, str]:
    """The method whose calls are the denoiser's, for the model clock.

    A compiled step is one graph, in which a mark could not be set: there the whole step counts.
    """
    return (family, "denoise") if settings.compile_mode is None else (Batch, "step")
