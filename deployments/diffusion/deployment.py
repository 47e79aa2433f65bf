"""The diffusion deployment: one model and one engine thread per replica."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from typing import Any

from msgspec.structs import asdict, replace
from ray.serve import metrics as serve_metrics

from deployments.diffusion.drain import check_grace
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.stats import EngineStats
from deployments.diffusion.telling import Telling
from deployments.diffusion.work import WorkMeter
from deployments.logs import log_through_serve
from deployments.metrics import DIFFUSION
from deployments.published import Published, tell_regularly
from deployments.requests import ImageResult, ModelCard, PreparedImage, Progress, Row
from deployments.tracing import add_spans


class Diffusion:
    """Serves rows of one model. A replica is ready when its model is loaded and warm."""

    def __init__(self, settings: DiffusionSettings, grace_s: float = math.inf) -> None:
        """`grace_s`: how long Serve lets it finish when it is told to stop."""
        # Here and not above: whoever wires the graph imports this module, and needs no torch.
        from deployments.diffusion.worker import EngineWorker

        log_through_serve()
        self._worker = EngineWorker(settings)
        self._work = WorkMeter(time.monotonic())
        meter = Published(serve_metrics, DIFFUSION, model=(settings.id,))
        self._telling = Telling(meter, settings.id)
        self._telling_task = tell_regularly(self._tell)
        self._reported = self._worker.engine.work_report(time.time())
        check_grace(settings, self._worker.engine.longest_row_s(self._worker.card), grace_s)

    async def generate(self, row: Row, prepared: PreparedImage | None = None) -> ImageResult:
        """One picture. Cancelling the call frees the row's lanes at the next step.

        Raises UnsupportedScheduler, AdapterFailed, Requeue, GenerationFailed, EngineFailed or
        ReplicaLost.
        """
        begun_s = time.time()
        picture = await asyncio.wrap_future(self._worker.engine.submit(row, prepared))
        add_spans(picture.phases, begun_s, row_id=row.id)
        return picture

    async def generate_with_progress(
        self,
        row: Row,
        prepared: PreparedImage | None = None,
        *,
        preview_every: int = 0,
        previews: int = 0,
    ) -> AsyncGenerator[Progress | ImageResult]:
        """As `generate`, but with a `Progress` for each model call before the picture.

        Every `preview_every` calls one of them carries a preview, and `previews` of them besides,
        spread evenly over the run. To be called as a stream.
        """
        from deployments.diffusion.run import Watcher

        loop, told = asyncio.get_running_loop(), asyncio.Queue[Progress | None]()

        def tell(progress: Progress | None) -> None:
            loop.call_soon_threadsafe(told.put_nowait, progress)

        watcher, begun_s = Watcher(tell, preview_every, previews), time.time()
        future = self._worker.engine.submit(row, prepared, watcher=watcher)
        future.add_done_callback(lambda _: tell(None))
        try:
            while (progress := await told.get()) is not None:
                yield progress
            picture: ImageResult = await asyncio.wrap_future(future)
            add_spans(picture.phases, begun_s, row_id=row.id)
            yield picture
        finally:
            future.cancel()  # whoever stops listening wants no picture

    async def card(self) -> ModelCard:
        """What this model can do."""
        return self._worker.card

    async def stats(self) -> EngineStats:
        """The engine's counters."""
        return self._worker.engine.stats()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """For the scaling policy: the work that waits here, and the load since last time."""
        stats = self._worker.engine.stats()
        load = self._work.load(stats.done_s, time.monotonic())
        return {"waiting_s": stats.pending_s, "load": load}

    def record_routing_stats(self) -> dict[str, Any]:
        """For the router: a WorkReport. Callers are told by Serve whenever it differs.

        Raises as `check_health`: who can do nothing has nothing to do, and would be sent all rows.
        """
        self._worker.check()
        report = self._worker.engine.work_report(time.time())
        if report != replace(self._reported, at=report.at):
            self._reported = report
        return asdict(self._reported)

    def check_health(self) -> None:
        """Raises when the engine has died or its step hangs; it never touches the device."""
        self._worker.check()

    def _tell(self) -> None:
        engine = self._worker.engine
        self._telling.tell(engine.stats(), engine.observations.drain())

    def __del__(self) -> None:
        if hasattr(self, "_worker"):  # the constructor may have raised
            self._worker.close()
