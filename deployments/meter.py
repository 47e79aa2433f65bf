"""Where the rooms say what has happened. They know a `Meter`, and not who publishes it."""

from typing import Protocol

from deployments.metrics import Metric


class Meter(Protocol):
    """Takes what the metrics of `deployments/metrics.py` count, each with all of its labels."""

    def count(self, metric: Metric, by: float = 1.0, **labels: str) -> None:
        """It has happened `by` times more."""

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """It is so now."""

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """It was so once."""


class Unread:
    """A meter that nobody reads, where there is no Ray to publish it."""

    def count(self, metric: Metric, by: float = 1.0, **labels: str) -> None:
        """Forgets it."""

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """Forgets it."""

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Forgets it."""


UNREAD = Unread()
