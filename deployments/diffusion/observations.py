"""What single rows and steps took, kept until somebody who publishes it asks."""

from collections import deque
from collections.abc import Iterator

from deployments.diffusion.batch import Batch
from deployments.metrics import FIRST_STEP, STEP_LANES, STEP_TIME, Metric

KEPT = 20_000
"""Of an engine whose observations nobody asks for, as in a benchmark: 2 MB."""


class Observations:
    """Any thread may add to them. Times are on the engine's clock."""

    def __init__(self) -> None:
        self._kept: deque[tuple[Metric, float]] = deque(maxlen=KEPT)

    def add(self, metric: Metric, value: float) -> None:
        """Of a histogram."""
        self._kept.append((metric, value))

    def add_step(self, batch: Batch, lanes: int, begun_s: float, now_s: float) -> None:
        """A step of so many lanes is over: for some of the batch's rows it was the first."""
        self.add(STEP_TIME, now_s - begun_s)
        self.add(STEP_LANES, lanes)
        for member in batch.members:
            if member.run.call == 1:
                self.add(FIRST_STEP, now_s - member.run.submitted_s)

    def drain(self) -> Iterator[tuple[Metric, float]]:
        """Each once, oldest first."""
        while self._kept:
            yield self._kept.popleft()
