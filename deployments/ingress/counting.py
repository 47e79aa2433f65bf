"""What became of the pictures of one request, for the metrics."""

import asyncio
import time
from types import TracebackType
from typing import Self

from deployments.ingress.envelope import CLIENT_GONE
from deployments.ingress.failures import describe
from deployments.meter import Meter
from deployments.metrics import IMAGES, REQUEST_TIME
from deployments.requests import GenerationRequest


class Counting:
    """A context around the run of a request; pictures that were not made count as its error."""

    def __init__(self, meter: Meter, request: GenerationRequest) -> None:
        self._meter = meter
        self._model = request.rows[0].model
        self._left = len(request.rows)

    def made(self, pictures: int) -> None:
        """So many more are there."""
        self._left -= pictures
        self._meter.count(IMAGES, pictures, model=self._model, status="200")

    def __enter__(self) -> Self:
        self._begun_s = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            took_s = time.monotonic() - self._begun_s
            self._meter.observe(REQUEST_TIME, took_s, model=self._model)
        elif self._left:
            self._meter.count(IMAGES, self._left, model=self._model, status=_status(error))


def _status(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return str(CLIENT_GONE)
    assert isinstance(error, Exception)
    return str(describe(error)[0])
