"""A room's metrics as Ray's objects, and the task that says regularly what they should show.

It knows no Ray: each `deployment.py` hands `ray.serve.metrics` in.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Iterable
from typing import Any

from deployments.metrics import PUBLISH_EVERY_S, Metric

logger = logging.getLogger(__name__)


class Published:
    """A `Meter` over `ray.serve.metrics`. For any thread."""

    def __init__(self, library: Any, metrics: Iterable[Metric], **known: tuple[str, ...]) -> None:
        """`library` is `ray.serve.metrics`; `known` are the values of labels that the table leaves
        open, where they are known: then counters of these are there from the start, at 0."""
        self._objects: dict[Metric, Any] = {}
        for metric in metrics:
            make = getattr(library, metric.kind.capitalize())
            more = {"boundaries": list(metric.buckets)} if metric.kind == "histogram" else {}
            made = make(metric.name, description=metric.help, tag_keys=tuple(metric.labels), **more)
            self._objects[metric] = made
            if metric.kind == "counter":
                for labels in metric.combinations(known):
                    # Without it the first event would be no rise to Prometheus: a series that
                    # begins at 1 has not increased. Ray's own `inc` refuses 0.
                    made._record(0.0, tags=labels)

    def count(self, metric: Metric, by: float = 1.0, **labels: str) -> None:
        """It has happened `by` times more."""
        if by > 0:
            self._objects[metric].inc(by, tags=labels)

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """It is so now; Ray forgets it unless it is said again before it next collects."""
        self._objects[metric].set(value, tags=labels)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """It was so once."""
        self._objects[metric].observe(value, tags=labels)


def tell_regularly(tell: Callable[[], None]) -> asyncio.Task[None]:
    """Calls it from now on on the running loop, every PUBLISH_EVERY_S, until it is cancelled."""

    async def telling() -> None:
        while True:
            try:
                tell()
            except Exception:
                logger.exception("metrics could not be told; trying again")
            await asyncio.sleep(PUBLISH_EVERY_S)

    # A context of its own: its log lines belong to no request.
    return asyncio.get_running_loop().create_task(telling(), context=contextvars.Context())
