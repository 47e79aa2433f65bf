"""What was measured, run by run, and the figures that several runs give together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from .trace import SHORT

Kind = Literal["curves", "loop", "saturation", "load", "mixed", "load_of_static", "previews"]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What identifies one measurement."""

    kind: Kind
    system: str = ""
    load: float = 0.0
    """Share of the capacity; 0 where there is no open loop."""
    per_s: float = 0.0
    """Mean arrivals per second, where there is an open loop."""
    seed: int = 0
    jobs: int = 0


class Record(msgspec.Struct, kw_only=True):
    """What one run of a system gave; sums, so that runs can be added up."""

    wall_s: float
    """From the first arrival to the last picture, or to the cut."""
    occupied_s: float
    """Of these, with at least one job in the system ..."""
    model_s: float
    """... and with the model running."""
    forwards: int
    lanes: int
    latencies: list[tuple[int, float]]
    """(steps, seconds from arrival to picture); of jobs cut off, the seconds until the cut."""
    finished: int
    failed: int = 0
    """Answered with an exception."""
    cut_off: bool = False
    checked: int = 0
    """Pictures compared with those of a pipeline that serves nobody else ..."""
    wrong: int = 0
    """... and how many of these differ."""
    recompiles: int = 0
    telling_s: float = 0.0
    """With the engine's thread telling watchers, or finding that there are none."""


_SUMS = (
    "wall_s",
    "occupied_s",
    "model_s",
    "forwards",
    "lanes",
    "finished",
    "failed",
    "checked",
    "wrong",
    "recompiles",
    "telling_s",
)


def merged(records: Sequence[Record]) -> Record:
    """Runs of one system at one load, with different seeds, as one."""

    def total(name: str) -> Any:
        return sum(getattr(record, name) for record in records)

    return Record(
        **{name: total(name) for name in _SUMS},
        latencies=[latency for record in records for latency in record.latencies],
        cut_off=any(record.cut_off for record in records),
    )


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Linear between neighbours; None of nothing."""
    return float(np.percentile(values, percent)) if values else None


def seconds(value: float | None) -> str:
    """Three digits, or a dash where nothing was measured."""
    return "-" if value is None else f"{value:.3g} s"


def images_per_s(record: Record) -> float:
    """Finished pictures per second of wall time."""
    return record.finished / record.wall_s


def outside_model_share(record: Record) -> float:
    """Share of the occupied time in which no model kernel runs."""
    return 1 - record.model_s / record.occupied_s


def figures(record: Record) -> dict[str, Any]:
    """The figures of a system at a load; latencies in seconds from arrival to picture."""
    everyone = [seconds for _, seconds in record.latencies]
    short = [seconds for steps, seconds in record.latencies if steps == SHORT]
    found: dict[str, Any] = {"images_per_s": images_per_s(record)}
    for percent in (50, 95, 99):
        found[f"p{percent}_s"] = percentile(everyone, percent)
    for percent in (50, 95, 99):
        found[f"short_p{percent}_s"] = percentile(short, percent)
    return found | {
        "lanes_per_step": record.lanes / record.forwards,
        "outside_model_share": outside_model_share(record),
        "jobs": len(record.latencies),
        "finished": record.finished,
        "failed": record.failed,
        "checked_pictures": record.checked,
        "wrong_pictures": record.wrong,
        "cut_off": record.cut_off,
    }
