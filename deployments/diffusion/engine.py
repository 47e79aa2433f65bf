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

from deployments.diffusion.batch import Batch, Denoise
from deployments.diffusion.families.family import Family
from deployments.diffusion.finish import Finisher
from deployments.diffusion.newcomers import Encoder
from deployments.diffusion.noise import draw_noise
from deployments.diffusion.queue import StepQueue
from deployments.diffusion.run import BatchKey, Run
from deployments.diffusion.sampling import StepTables
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.stats import EngineStats
from deployments.errors import GenerationFailed, Requeue, StepwiseError
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
        self._family = family
        self._settings = settings
        self._denoise = denoise
        self._clock = clock
        self._tables = StepTables(family.scheduler_config)
        self._queue: StepQueue[Run] = StepQueue(
            max_queue_s=settings.max_queue_s, lane_call_s=lane_call_s
        )
        self._batches: dict[BatchKey, Batch] = {}
        self._encoder = Encoder(family)
        self._finisher = Finisher(family, settings.codec_threads, clock)
        self._changed = threading.Condition()
        # Tables and noise are settled off the engine's thread, in the order of arrival.
        self._desk = ThreadPoolExecutor(1, thread_name_prefix="stepwise-desk")
        self._stats = EngineStats()

    # Any thread

    def submit(self, row: Row, prepared: PreparedImage | None = None) -> Future[ImageResult]:
        """The picture to come. Cancelling the future frees the row's lanes at the next step.

        The future raises UnsupportedScheduler, Requeue or GenerationFailed.
        """
        future: Future[ImageResult] = Future()
        self._desk.submit(self._enqueue, row, prepared, self._clock(), future)
        return future

    def stats(self) -> EngineStats:
        """A copy of the counters."""
        with self._changed:
            return replace(
                self._stats,
                waiting=len(self._queue),
                running=sum(len(batch.members) for batch in self._batches.values()),
                pending_s=self._queue.pending_s(),
            )

    def wake(self) -> None:
        """Makes `wait_for_work` return."""
        with self._changed:
            self._changed.notify_all()

    # The engine's thread

    def step(self) -> bool:
        """Admit, encode newcomers, one step, decode the finished. False when there is no row."""
        self._drop_gone()
        key, newcomers = self._admit()
        if key is None:
            return False
        batch = self._batches[key]
        with self._failing(newcomers):
            batch.join(self._encoder.encode(newcomers))
        with self._failing([member.run for member in batch.members]):
            self._step(batch)
        finished = batch.leave(lambda run: run.calls_left == 0 and not run.gone)
        with self._failing([member.run for member in finished]):
            self._finisher.finish(finished)
            self._count(finished=len(finished))
        return True

    def wait_for_work(self, stopped: Callable[[], bool]) -> None:
        """Sleeps until a row arrives or `stopped`."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._queue) > 0 or stopped())

    def close(self) -> None:
        """Ends the helper threads; rows that still wait are failed."""
        self._desk.shutdown()
        runs = [m.run for batch in self._batches.values() for m in batch.leave(lambda run: True)]
        with self._changed:
            keys = iter(lambda: self._queue.next_key(()), None)
            for key in keys:
                runs += self._queue.admit(key, room=2**31, now_s=self._clock())
        for run in runs:
            _reject(run.future, GenerationFailed("the replica is shutting down"))
        self._finisher.close()

    # Below: in the order of a row's way

    def _enqueue(
        self, row: Row, prepared: PreparedImage | None, now_s: float, future: Future[ImageResult]
    ) -> None:
        try:
            run = self._settle(row, prepared, now_s, future)
            with self._changed:
                self._queue.push(run)
                self._changed.notify_all()
        except StepwiseError as error:
            if isinstance(error, Requeue):
                self._count(requeued=1)
            logger.info("row %s refused: %s", row.id, error.message)
            _reject(future, error)
        except Exception as error:
            logger.exception("row %s could not be settled", row.id)
            _reject(future, _failed(row, error))

    def _settle(
        self, row: Row, prepared: PreparedImage | None, now_s: float, future: Future[ImageResult]
    ) -> Run:
        factor = self._family.latent_factor
        key = BatchKey(row.height // factor, row.width // factor)
        inpaints = prepared is not None and prepared.mask is not None
        if row.strength is None:
            table = self._tables.text_to_image(row.scheduler, row.num_inference_steps)
        else:
            table = self._tables.image_to_image(
                row.scheduler, row.num_inference_steps, row.strength, inpaint=inpaints
            )
        noise = draw_noise(
            row.seed,
            (self._family.latent_channels, *key),
            table,
            encodes=prepared is not None and self._family.encoder_is_random,
            inpaints=inpaints,
        )
        return Run(row, prepared, key, table, noise, now_s, future)

    def _drop_gone(self) -> None:
        with self._changed:
            gone = self._queue.drop_gone()
        for batch in self._batches.values():
            gone += [member.run for member in batch.leave(lambda run: run.gone)]
        cancelled = [run for run in gone if run.future.cancelled()]
        for run in cancelled:
            logger.info("row %s cancelled after %d calls", run.row.id, run.call)
        self._count(cancelled=len(cancelled))

    def _admit(self) -> tuple[BatchKey | None, list[Run]]:
        self._batches = {key: batch for key, batch in self._batches.items() if batch.members}
        now_s = self._clock()
        with self._changed:
            key = self._queue.next_key(self._batches)
            if not isinstance(key, BatchKey):
                return None, []
            batch = self._batches.setdefault(key, Batch(self._denoise, self._family.device))
            room = self._settings.max_lanes - batch.lanes
            newcomers = self._queue.admit(key, room=room, now_s=now_s)
        for run in newcomers:
            run.started_s = now_s
        return key, newcomers

    def _step(self, batch: Batch) -> None:
        if not batch.members:
            return
        rows, lanes = len(batch.members), batch.lanes
        batch.step()
        self._count(steps=1, row_steps=rows, lane_steps=lanes)
        self._stats.max_rows = max(self._stats.max_rows, rows)

    @contextmanager
    def _failing(self, runs: Sequence[Run]) -> Iterator[None]:
        """What goes wrong inside fails these runs and no others; the batch drops them next step."""
        try:
            yield
        except Exception as error:
            logger.exception("%d rows failed", len(runs))
            self._count(failed=len(runs))
            for run in runs:
                _reject(run.future, _failed(run.row, error))

    def _count(self, **increments: int) -> None:
        with self._changed:
            for name, increment in increments.items():
                setattr(self._stats, name, getattr(self._stats, name) + increment)


def _failed(row: Row, error: Exception) -> GenerationFailed:
    return GenerationFailed(f"row {row.id} failed: {type(error).__name__}: {error}")


def _reject(future: Future[ImageResult], error: StepwiseError) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(error)
