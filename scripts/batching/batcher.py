"""The baselines that call a pipeline from one thread, a whole batch at a time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from .pipeline import Pipeline
from .policies import Policy, Waiting, by_key
from .systems import Picture, Work, png
from .trace import Job


class Batcher:
    """A queue, a policy and a pipeline. The batch is chosen when the pipeline is free."""

    def __init__(
        self,
        pipeline: Pipeline,
        policy: Policy,
        *,
        most_rows: int,
        device_thread: Executor,
        codecs: ThreadPoolExecutor,
        wait_s: float = 0.0,
    ) -> None:
        """`wait_s`: how long after a batch's first job its timer runs, unless it is full before."""
        self._pipeline, self._policy, self._most_rows = pipeline, policy, most_rows
        self._device_thread, self._codecs, self._wait_s = device_thread, codecs, wait_s
        self._changed = threading.Condition()
        self._waiting: list[Waiting] = []

    def submit(self, job: Job) -> Future[Picture]:
        """The picture to come."""
        one = Waiting(job, time.perf_counter(), Future())
        with self._changed:
            self._waiting.append(one)
            self._changed.notify()
        # One turn for each job is enough turns for all of them, however they are batched.
        self._device_thread.submit(self._turn)
        return one.future

    def work(self) -> Work:
        """What the pipeline's UNet has done."""
        return Work(self._pipeline.forwards, self._pipeline.lanes)

    def _turn(self) -> None:
        batch = self._take()
        try:
            pictures = [
                (one, picture)
                for group in by_key(batch)
                for one, picture in zip(
                    group, self._pipeline.pictures([one.job for one in group]), strict=True
                )
            ]
        except Exception as error:
            for one in batch:
                one.future.set_exception(error)
            return
        for one, picture in pictures:
            self._codecs.submit(self._answer, one, picture)

    def _take(self) -> list[Waiting]:
        with self._changed:
            self._drop_cancelled()
            if self._wait_s and self._waiting:
                left_s = self._waiting[0].arrived_s + self._wait_s - time.perf_counter()
                self._changed.wait_for(lambda: len(self._waiting) >= self._most_rows, left_s)
                self._drop_cancelled()
            batch = self._policy(self._waiting, self._most_rows) if self._waiting else []
            self._waiting = [one for one in self._waiting if one not in batch]
        return [one for one in batch if one.future.set_running_or_notify_cancel()]

    def _drop_cancelled(self) -> None:
        self._waiting = [one for one in self._waiting if not one.future.cancelled()]

    def _answer(self, one: Waiting, picture: NDArray[np.uint8]) -> None:
        one.future.set_result(png(picture))
