"""A thread pool over one pipeline object, as a `def` endpoint of a web framework has it."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from .pipeline import Pipeline
from .systems import Picture, Work, png
from .trace import Job


class Pool:
    """Every thread calls the same pipeline; its one scheduler is in all of these calls at once."""

    def __init__(self, pipeline: Pipeline, threads: ThreadPoolExecutor) -> None:
        self._pipeline, self._threads = pipeline, threads

    def submit(self, job: Job) -> Future[Picture]:
        """The picture to come, if it comes: two calls may also trip over each other and raise."""
        return self._threads.submit(self._make, job)

    def work(self) -> Work:
        """What the pipeline's UNet has done."""
        return Work(self._pipeline.forwards, self._pipeline.lanes)

    def _make(self, job: Job) -> Picture:
        return png(self._pipeline.pictures([job])[0])
