"""A meter that keeps what it is told, and refuses what is not in the table."""

from collections import defaultdict
from typing import Any

from deployments.metrics import Kind, Metric

Series = tuple[Any, ...]
"""A metric and its labels' values, in the table's order."""


class Recorded:
    def __init__(self) -> None:
        self.counts: defaultdict[Series, float] = defaultdict(float)
        self.gauges: dict[Series, float] = {}
        self.observed: defaultdict[Series, list[float]] = defaultdict(list)

    def count(self, metric: Metric, by: float = 1.0, **labels: str) -> None:
        assert by >= 0, f"{metric.name} goes back by {by}"
        self.counts[_series(metric, "counter", labels)] += by

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        self.gauges[_series(metric, "gauge", labels)] = value

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        self.observed[_series(metric, "histogram", labels)].append(value)


def _series(metric: Metric, kind: Kind, labels: dict[str, str]) -> Series:
    assert metric.kind == kind
    assert labels.keys() == metric.labels.keys(), metric.name
    for label, value in labels.items():
        assert not metric.labels[label] or value in metric.labels[label], (
            metric.name,
            label,
            value,
        )
    return (metric, *(labels[label] for label in metric.labels))
