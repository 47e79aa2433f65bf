"""Rows on their way to the replicas that make them: over Serve's handles, whoever asks.

The one file between the rooms that knows Ray. An input image goes by way of imaging; a row that a
full or lost replica gave back is offered again; Ray's errors become ours.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle

from deployments.errors import ModelNotReady, ReplicaLost, Requeue
from deployments.requests import GenerationRequest, ImageResult, Progress, Row

OFFERS = 3
"""How often a row is offered before its client hears of a full or lost replica. Serve prefers the
less loaded of two replicas, so a second offer rarely meets the same one."""
REJECTED_RETRY_S = 1.0
"""Retry-After for a rejection by Serve that names no time."""


class Dispatcher:
    """Runs requests on the models' replicas."""

    def __init__(
        self, models: Mapping[str, DeploymentHandle[Any]], imaging: DeploymentHandle[Any]
    ) -> None:
        self._models = models
        self._imaging = imaging

    async def generate(self, request: GenerationRequest) -> list[ImageResult]:
        """One result for each row, in their order; all are cancelled when one of them fails."""
        prepared = self._prepared(request)
        rows = [asyncio.create_task(self._picture(row, prepared)) for row in request.rows]
        try:
            return list(await asyncio.gather(*rows))
        finally:
            for task in rows:
                task.cancel()
            _cancel(prepared)

    async def watch(
        self, request: GenerationRequest, *, previews: int
    ) -> AsyncGenerator[Progress | ImageResult]:
        """What the rows tell, as they tell it, each one's picture last. Closing it cancels them."""
        prepared = self._prepared(request)
        told = asyncio.Queue[Progress | ImageResult | Exception | None]()
        rows = [
            asyncio.create_task(_into(told, self._watched(row, prepared, previews)))
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
            _cancel(prepared)

    def _prepared(self, request: GenerationRequest) -> Any:
        """Not awaited: the array goes from imaging's replica to the model's, not through here."""
        if request.image is None:
            return None
        return self._imaging.prepare.remote(request.image, request.mask, request.prepare)

    async def _picture(self, row: Row, prepared: Any) -> ImageResult:
        for left in reversed(range(OFFERS)):
            call = self._models[row.model].generate.remote(row, prepared)
            try:
                picture: ImageResult = await call
                return picture
            except (RayError, RayServeException) as error:
                _raise_unless_offered_again(error, left)
            except asyncio.CancelledError:
                _cancel(call)
                raise
        raise AssertionError("the last offer returns or raises")

    async def _watched(
        self, row: Row, prepared: Any, previews: int
    ) -> AsyncIterator[Progress | ImageResult]:
        model = self._models[row.model].options(stream=True)
        for left in reversed(range(OFFERS)):
            call: Any = model.generate_with_progress.remote(row, prepared, previews=previews)
            try:
                async for item in call:
                    yield item
                return
            except (RayError, RayServeException) as error:
                _raise_unless_offered_again(error, left)
            except (asyncio.CancelledError, GeneratorExit):
                _cancel(call)
                raise


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
        case RayActorError() | ReplicaUnavailableError():
            return ReplicaLost("the replica at work was lost; another takes over, try again")
        case DeploymentUnavailableError():
            return ModelNotReady("the model failed to start; see the service's log")
    return error


def _raise_unless_offered_again(error: Exception, offers_left: int) -> None:
    ours = translated(error)
    if offers_left == 0 or not isinstance(ours, Requeue | ReplicaLost):
        raise ours from error


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
    else:
        told.put_nowait(None)


def _cancel(call: Any) -> None:
    """A no-op for what is done. A call that never reached a replica raises its failure again
    here; it is the failure being reported, or came after it."""
    if call is not None:
        with suppress(RayError, RayServeException):
            call.cancel()
