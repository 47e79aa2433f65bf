"""The step engine: any mix of rows in one running batch.

Before every step it admits waiting rows, runs one forward for all rows of a key, and lets the
finished leave. It knows neither Ray nor HTTP. `submit` may be called from any thread; `step` and
everything below it belongs to the one thread that owns the device.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import torch

from deployments.diffusion.batch import Batch, Denoise, Member
from deployments.diffusion.desk import Desk
from deployments.diffusion.families.family import Family
from deployments.diffusion.finish import DECODED_AT_ONCE, Finisher
from deployments.diffusion.newcomers import Encoder
from deployments.diffusion.queue import StepQueue
from deployments.diffusion.run import BatchKey, Run, answer
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.stats import EngineStats
from deployments.errors import EngineFailed, Requeue, StepwiseError
from deployments.requests import ImageResult, PreparedImage, Row

logger = logging.getLogger(__name__)


class Engine:
    """One loaded model and its rows."""

    def __init__(
        self,
        family: Family,
        settings: DiffusionSettings,
        *,
        denoise: Denoise,
        lane_call_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`lane_call_s` is the measured cost of one lane of one model call, in seconds."""
        self._denoise = denoise
        self._device = family.device
        self._clock = clock
        self._queue: StepQueue[Run] = StepQueue(
            max_queue_s=settings.max_queue_s,
            max_lanes=settings.max_lanes,
            lane_call_s=lane_call_s,
        )
        self._batches: dict[BatchKey, Batch] = {}
        self._desk = Desk(family)
        self._encoder = Encoder(family)
        self._finisher = Finisher(family, settings.codec_threads, clock)
        self._changed = threading.Condition()
        self._arrivals = ThreadPoolExecutor(1, thread_name_prefix="stepwise-desk")
        self._arriving = 0
        self._stats = EngineStats()
        self._step_begun_s: float | None = None
        self._closed: EngineFailed | None = None

    # Any thread

    def submit(self, row: Row, prepared: PreparedImage | None = None) -> Future[ImageResult]:
        """The picture to come. Cancelling the future frees the row's lanes at the next step.

        The future raises UnsupportedScheduler, Requeue, GenerationFailed or EngineFailed.
        """
        future: Future[ImageResult] = Future()
        with self._changed:
            if self._closed is not None:
                answer(future, self._closed)
                return future
            self._arriving += 1
        self._arrivals.submit(self._arrive, row, prepared, self._clock(), future)
        return future

    def stats(self) -> EngineStats:
        """A copy of the counters."""
        with self._changed:
            return replace(
                self._stats,
                waiting=self._arriving + len(self._queue),
                running=sum(len(batch.members) for batch in self._batches.values()),
                pending_s=self._queue.pending_s(),
            )

    def step_age_s(self) -> float:
        """Seconds since the step in flight began; 0 between steps."""
        begun_s = self._step_begun_s
        return 0.0 if begun_s is None else self._clock() - begun_s

    def wake(self) -> None:
        """Makes `wait_for_work` return."""
        with self._changed:
            self._changed.notify_all()

    # The engine's thread

    def step(self) -> bool:
        """Admit, encode newcomers, one step, decode the finished. False when there is no row."""
        self._step_begun_s = self._clock()
        self._drop_gone()
        self._join(self._admit())
        batch = self._next_batch()
        if batch is not None:
            self._advance(batch)
            self._retire(batch.leave(lambda run: run.calls_left == 0 and not run.gone))
        self._step_begun_s = None
        return batch is not None

    def wait_for_work(self, stopped: Callable[[], bool]) -> None:
        """Sleeps until a row arrives or `stopped`."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._queue) > 0 or stopped())

    def close(self, why: str = "the replica is shutting down; ask again") -> None:
        """Answers every row that is not done with EngineFailed, and later ones at once."""
        error = EngineFailed(why)
        with self._changed:
            self._closed = error
        self._arrivals.shutdown()
        with self._changed:
            runs = self._queue.take_all()
            runs += [member.run for batch in self._batches.values() for member in batch.members]
            self._batches = {}
        for run in runs:
            answer(run.future, error)
        self._finisher.close()

    # Below: in the order of a row's way

    def _arrive(
        self, row: Row, prepared: PreparedImage | None, now_s: float, future: Future[ImageResult]
    ) -> None:
        """Settles the row's table and noise on the desk's thread, in the order of arrival."""
        try:
            if not future.done():
                run = self._desk.settle(row, prepared, now_s, future, self._check_room)
                with self._changed:
                    self._queue.push(run)
        except StepwiseError as error:
            logger.info("row %s refused: %s", row.id, error.message)
            self._count(requeued=int(isinstance(error, Requeue)))
            answer(future, error)
        except Exception:
            logger.exception("row %s could not be settled", row.id)
            answer(future, _lost(row))
        with self._changed:
            self._arriving -= 1
            self._changed.notify_all()

    def _check_room(self, calls: int, weight: float) -> None:
        with self._changed:
            self._queue.check(calls, weight)

    def _drop_gone(self) -> None:
        with self._changed:
            gone = self._queue.drop_gone()
        for batch in self._batches.values():
            gone += [member.run for member in batch.leave(lambda run: run.gone)]
        cancelled = [run for run in gone if run.future.cancelled()]
        for run in cancelled:
            logger.info("row %s cancelled after %d calls", run.row.id, run.call)
        self._count(cancelled=len(cancelled))

    def _admit(self) -> list[Run]:
        now_s = self._clock()
        with self._changed:
            self._batches = {key: batch for key, batch in self._batches.items() if batch.members}
            weight = sum(batch.weight for batch in self._batches.values())
            newcomers = self._queue.admit(running=weight, now_s=now_s)
        for run in newcomers:
            run.started_s = now_s
        return newcomers

    def _join(self, newcomers: Sequence[Run]) -> None:
        for key in {run.key for run in newcomers}:
            runs = [run for run in newcomers if run.key == key]
            batch = self._batches.get(key) or Batch(self._denoise, self._device)
            with self._failing(runs):
                batch.join(self._encoder.encode(runs))
                with self._changed:
                    self._batches[key] = batch

    def _next_batch(self) -> Batch | None:
        key = self._queue.next_key(self._batches)
        return self._batches[key] if isinstance(key, BatchKey) else None

    def _advance(self, batch: Batch) -> None:
        rows, lanes, weight = len(batch.members), batch.lanes, batch.weight
        begun_s = self._clock()
        with self._failing([member.run for member in batch.members]):
            batch.step()
        with self._changed:
            self._queue.observe(weight, self._clock() - begun_s)
        self._count(steps=1, row_steps=rows, lane_steps=lanes)
        self._stats.max_rows = max(self._stats.max_rows, rows)

    def _retire(self, finished: Sequence[Member]) -> None:
        for start in range(0, len(finished), DECODED_AT_ONCE):
            chunk = finished[start : start + DECODED_AT_ONCE]
            with self._failing([member.run for member in chunk]):
                self._finisher.finish(chunk)
                self._count(finished=len(chunk))

    @contextmanager
    def _failing(self, runs: Sequence[Run]) -> Iterator[None]:
        """What goes wrong inside fails these runs and no others; the batch drops them next step.

        After a fault of the accelerator (not a lack of memory) every later call fails as well:
        that one goes up, and ends the engine's thread.
        """
        try:
            yield
        except Exception as error:
            logger.exception("rows failed: %s", ", ".join(run.row.id for run in runs))
            self._count(failed=len(runs))
            for run in runs:
                answer(run.future, _lost(run.row))
            if isinstance(error, torch.AcceleratorError):
                raise

    def _count(self, **increments: int) -> None:
        with self._changed:
            for name, increment in increments.items():
                setattr(self._stats, name, getattr(self._stats, name) + increment)


def _lost(row: Row) -> EngineFailed:
    # What went wrong inside is for the log, not for the client.
    return EngineFailed(f"row {row.id} was lost through a fault here; ask again")
