"""Rows on their way to the replicas that make them: over Serve's handles, whoever asks.

The one file between the rooms that knows Ray. An input image goes by way of imaging; a row that a
full replica gave back is offered again, one whose replica was lost is repeated once; Ray's errors
become ours.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle

from deployments.errors import EngineFailed, ImagingFull, ModelNotReady, ReplicaLost, Requeue
from deployments.meter import UNREAD, Meter
from deployments.metrics import RETRIES
from deployments.requests import GenerationRequest, ImageResult, Progress, Row

logger = logging.getLogger(__name__)

OFFERS = 3
"""How often a row is offered before its client hears that all are full. The router sends it to one
that it has not met, if there is one; Serve's own prefers the less loaded of two."""
LOSSES = 2
"""How many replicas may be lost under a row before its client hears of it: it is repeated once. A
row that kills its replica must not go round the fleet."""
REJECTED_RETRY_S = 1.0
"""Retry-After for a rejection by Serve that names no time."""
MAX_PAUSE_S = 30.0
"""Between two offers of a row that can wait: room may come before all that waits is done."""

LOST = (
    RayActorError,
    NodeDiedError,
    WorkerCrashedError,
    OutOfMemoryError,
    ObjectLostError,
    ReplicaUnavailableError,
)
"""What Ray says when a replica, its node or an image that was kept there is gone; a replica also
when Ray ends it to free its node's memory."""


class Dispatcher:
    """Runs requests on the models' replicas."""

    def __init__(
        self,
        models: Mapping[str, DeploymentHandle[Any]],
        imaging: DeploymentHandle[Any],
        meter: Meter = UNREAD,
    ) -> None:
        self._models = models
        self._imaging = imaging
        self._meter = meter

    async def generate(self, request: GenerationRequest) -> list[ImageResult]:
        """One result for each row, in their order; all are cancelled when one of them fails."""
        prepared = _Prepared(self._imaging, request)
        rows = [asyncio.create_task(self._picture(row, prepared)) for row in request.rows]
        try:
            return list(await asyncio.gather(*rows))
        finally:
            for task in rows:
                task.cancel()
            prepared.cancel()

    async def watch(
        self, request: GenerationRequest, *, previews: int, patience_s: float = 0.0
    ) -> AsyncGenerator[Progress | ImageResult]:
        """What the rows tell, as they tell it, each one's picture last. Closing it cancels them.

        A row that no replica has room for is offered again and again for `patience_s`.
        """
        prepared = _Prepared(self._imaging, request)
        give_up = asyncio.get_running_loop().time() + patience_s
        told = asyncio.Queue[Progress | ImageResult | Exception | None]()
        rows = [
            asyncio.create_task(_into(told, self._watched(row, prepared, previews, give_up)))
            for row in request.rows
        ]
        try:
            left = len(rows)
            while left:
                item = await told.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    left -= 1
                else:
                    yield item
        finally:
            for task in rows:
                task.cancel()
            prepared.cancel()

    async def _picture(self, row: Row, prepared: "_Prepared") -> ImageResult:
        offers = _Offers(row, self._meter)
        while True:
            call = self._models[row.model].generate.remote(row, prepared.of(offers))
            try:
                picture: ImageResult = await call
                return picture
            except (RayError, RayServeException) as error:
                await offers.refused(error)
            except asyncio.CancelledError:
                cancel(call)
                raise

    async def _watched(
        self, row: Row, prepared: "_Prepared", previews: int, give_up: float
    ) -> AsyncIterator[Progress | ImageResult]:
        offers = _Offers(row, self._meter, give_up)
        model = self._models[row.model].options(stream=True)
        while True:
            call: Any = model.generate_with_progress.remote(
                row, prepared.of(offers), previews=previews
            )
            try:
                async for item in call:
                    if offers.is_news(item):
                        yield item
                return
            except (RayError, RayServeException) as error:
                await offers.refused(error)
            except (asyncio.CancelledError, GeneratorExit):
                cancel(call)
                raise


class _Offers:
    """Of one row to replicas that may have no room for it, or be lost."""

    def __init__(self, row: Row, meter: Meter, give_up: float = 0.0) -> None:
        """After `OFFERS` of them the next ones come in the loop's time before `give_up`, if any."""
        self.made = 0
        self.prepared: Any = None
        """The input image that went with the last one ..."""
        self.keeps_prepared = True
        """... which is as good for the next."""
        self._row, self._meter, self._give_up = row, meter, give_up
        self._lost = 0
        self._call_told = self._call_lost = -1

    def is_news(self, item: Progress | ImageResult) -> bool:
        """Whether its watcher has not heard it before its replica was lost: it says the same."""
        if isinstance(item, Progress):
            self._call_told = max(item.call, self._call_told)
            return item.call > self._call_lost
        return True

    async def refused(self, error: Exception) -> None:
        """Returns when the row may be offered once more; else raises the error as ours."""
        self.made += 1
        ours = translated(error)
        # A full model's own words. Serve's may be of imaging's replicas.
        of_model = isinstance(error, RayTaskError) and not isinstance(ours, ImagingFull)
        self.keeps_prepared = of_model and isinstance(ours, Requeue)
        if isinstance(ours, ReplicaLost):
            self._lost += 1
            if self._lost == LOSSES:
                raise ours from error
            self._call_lost = self._call_told
            cause = type(error).__name__
            logger.warning("row %s lost its replica (%s) and is repeated", self._row.id, cause)
            self._meter.count(RETRIES, model=self._row.model, reason="lost")
            return
        if not isinstance(ours, Requeue):
            raise ours from error
        if self.made >= OFFERS:
            await self._pause(ours, error)
        self._meter.count(RETRIES, model=self._row.model, reason="full")

    async def _pause(self, ours: Requeue, error: Exception) -> None:
        pause_s = min(max(ours.pending_s, REJECTED_RETRY_S), MAX_PAUSE_S)
        if asyncio.get_running_loop().time() + pause_s > self._give_up:
            raise ours from error
        await asyncio.sleep(pause_s)


class _Prepared:
    """A request's input image on its way through imaging: one call for all rows.

    Not awaited: the array goes from imaging's replica to the model's, not through here.
    """

    def __init__(self, imaging: DeploymentHandle[Any], request: GenerationRequest) -> None:
        self._imaging, self._request = imaging, request
        self._call = self._begun()

    def of(self, offers: _Offers) -> Any:
        """The call, begun anew for a row that was refused with it, unless the model was full: lost
        may have been imaging's replica. Once for all rows."""
        if not offers.keeps_prepared and offers.prepared is self._call:
            self._call = self._begun()
        offers.prepared = self._call
        return self._call

    def cancel(self) -> None:
        """Nobody needs it any more."""
        cancel(self._call)

    def _begun(self) -> Any:
        request = self._request
        if request.image is None:
            return None
        return self._imaging.prepare.remote(request.image, request.mask, request.prepare)


def translated(error: Exception) -> Exception:
    """Ray's error as ours. A user's exception arrives wrapped, once for each hop it crossed."""
    while isinstance(error, RayTaskError):
        error = error.cause
    match error:
        case BackPressureError():
            return Requeue(
                "every replica is at its limit; try again later",
                pending_s=error.retry_after_s or REJECTED_RETRY_S,
            )
        case DeploymentUnavailableError():
            return ModelNotReady("the model failed to start; see the service's log")
    # Serve wraps the death of the replica that prepared a row's image.
    if isinstance(error, LOST) or isinstance(error.__cause__, LOST):
        return ReplicaLost("the replica at work was lost; another takes over, try again")
    return error


async def _into(
    told: "asyncio.Queue[Progress | ImageResult | Exception | None]",
    items: AsyncIterator[Progress | ImageResult],
) -> None:
    """All of the items, then None, or the error that ended them."""
    try:
        async for item in items:
            told.put_nowait(item)
    except Exception as error:
        told.put_nowait(error)
    except asyncio.CancelledError:
        # Serve may cancel a call by itself; whoever still waits must hear of it.
        told.put_nowait(EngineFailed("the row was cancelled within the service; ask again"))
        raise
    else:
        told.put_nowait(None)


def cancel(call: Any) -> None:
    """A no-op for what is done. A call that never reached a replica raises its failure again
    here; it is the failure being reported, or came after it."""
    if call is not None:
        with suppress(RayError, RayServeException):
            call.cancel()
