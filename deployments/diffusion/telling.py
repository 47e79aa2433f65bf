"""What an engine has counted since the last time, told as the metrics of the table.

Knows no Ray.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from deployments import metrics
from deployments.diffusion.stats import EngineStats
from deployments.meter import Meter
from deployments.metrics import Metric


class Counted(NamedTuple):
    """A counter as it is now."""

    metric: Metric
    labels: dict[str, str]
    total: float


class Telling:
    """Tells one engine's metrics to a meter."""

    def __init__(self, meter: Meter, model: str) -> None:
        self._meter, self._model = meter, model
        self._told = list(_counted(EngineStats()))

    def tell(self, stats: EngineStats, observed: Iterable[tuple[Metric, float]]) -> None:
        """`observed` is what has been observed since the last call."""
        meter, model = self._meter, self._model
        now = list(_counted(stats))
        for (metric, labels, total), before in zip(now, self._told, strict=True):
            meter.count(metric, total - before.total, model=model, **labels)
        self._told = now
        for metric, value in observed:
            meter.observe(metric, value, model=model)
        for state, rows in (
            ("arriving", stats.arriving),
            ("waiting", stats.waiting - stats.arriving),
            ("running", stats.running),
        ):
            meter.set(metrics.ROWS, rows, model=model, state=state)
        meter.set(metrics.PENDING, stats.pending_s, model=model)
        meter.set(metrics.CAPACITY, stats.capacity_lanes, model=model)
        meter.set(metrics.STEP_AGE, stats.step_age_s, model=model)


def _counted(stats: EngineStats) -> Iterator[Counted]:
    """Every counter, always in the same order."""
    yield Counted(metrics.WORK, {}, stats.done_s)
    yield Counted(metrics.PARKED, {}, stats.parked)
    yield Counted(metrics.PREVIEWS, {}, stats.previews)
    yield Counted(metrics.CODEC_WAITS, {}, stats.codec_waits)
    yield Counted(metrics.SWITCHES, {}, stats.adapter_switches)
    yield Counted(metrics.ADAPTER_READS, {}, stats.adapter_reads)
    lanes = {"rows": stats.lane_steps, "padding": stats.padding_steps}
    yield from _by(metrics.LANE_CALLS, "of", lanes)
    prompts = {"hit": stats.prompt_hits, "miss": stats.prompt_misses}
    yield from _by(metrics.PROMPTS, "cache", prompts)
    splits = {"memory": stats.memory_splits, "fault": stats.splits - stats.memory_splits}
    yield from _by(metrics.SPLITS, "cause", splits)
    compiled = {"warm-up": stats.compiles, "serving": stats.recompiles}
    yield from _by(metrics.COMPILES, "when", compiled)
    yield from _by(metrics.ENGINE_TIME, "phase", stats.phases)
    yield from _by(metrics.ROWS_ANSWERED, "outcome", stats.answers)
    yield from _by(metrics.HELD_BACK, "reason", stats.held_back)


def _by(metric: Metric, label: str, totals: Mapping[str, float]) -> Iterator[Counted]:
    """A counter for each value that its label can have; 0 where it has not been met."""
    for value in metric.labels[label]:
        yield Counted(metric, {label: value}, totals.get(value, 0.0))
