"""The imaging replica: the shim between Ray Serve and `prepare`.

A plain class: `serve_app/app.py` makes a deployment of it.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from ray.serve import metrics as serve_metrics

from deployments.errors import InvalidImage, Requeue
from deployments.imaging.admission import Admission
from deployments.imaging.kernels import warm_up
from deployments.imaging.prepare import prepare
from deployments.imaging.settings import ImagingSettings
from deployments.memory import return_large_blocks
from deployments.metrics import IMAGING, PREPARE_TIME, PREPARE_WAITING, PREPARED
from deployments.published import Published, tell_regularly
from deployments.requests import Phase, PreparedImage, PrepareSpec
from deployments.tracing import add_spans


class Imaging:
    """A CPU replica that makes input images ready for the diffusion deployment."""

    def __init__(self, settings: ImagingSettings) -> None:
        return_large_blocks()
        threads = _num_threads()
        self._settings = settings
        self._admission = Admission(threads=threads, max_waiting=settings.max_waiting)
        self._free = asyncio.Semaphore(threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="imaging")
        warm_up()
        self._meter = Published(serve_metrics, IMAGING)
        self._told = tell_regularly(self._tell)

    async def prepare(self, image: bytes, mask: bytes | None, spec: PrepareSpec) -> PreparedImage:
        """`prepare.prepare` on a thread, so that the replica's event loop stays free.

        Raises `InvalidImage`, as that does, and `Requeue` where too many images wait.
        """
        with self._counted():
            return await self._prepared(image, mask, spec)

    async def _prepared(self, image: bytes, mask: bytes | None, spec: PrepareSpec) -> PreparedImage:
        self._admission.enter()
        # Not in the pool's own queue, from which nobody takes the files of a cancelled call.
        try:
            await self._free.acquire()
        except asyncio.CancelledError:
            self._admission.leave()
            raise
        loop = asyncio.get_running_loop()
        begun_s = time.monotonic()
        work = self._pool.submit(prepare, image, mask, spec, self._settings)
        # When the thread is done with it, not when the caller is: a call that is cancelled half-way
        # keeps its thread busy.
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done, begun_s))
        prepared = await asyncio.wrap_future(work)
        took_s = time.monotonic() - begun_s
        add_spans([Phase("prepare", 0.0, took_s)], time.time() - took_s)
        return prepared

    def _done(self, begun_s: float) -> None:
        took_s = time.monotonic() - begun_s
        self._admission.leave(took_s)
        self._free.release()
        self._meter.observe(PREPARE_TIME, took_s)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        outcome = "failed"
        try:
            yield
            outcome = "done"
        except InvalidImage:
            outcome = "refused"
            raise
        except Requeue:
            outcome = "full"
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._meter.count(PREPARED, outcome=outcome)

    def _tell(self) -> None:
        self._meter.set(PREPARE_WAITING, self._admission.waiting)


def _num_threads() -> int:
    # Ray sets OMP_NUM_THREADS to a replica's num_cpus, unless the operator has set it.
    # Codecs and kernels run without the GIL, so each thread fills one of those CPUs.
    return int(os.environ.get("OMP_NUM_THREADS", 0)) or os.cpu_count() or 1
