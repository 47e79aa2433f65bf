"""The figures of a router, and what they are to those of Serve's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .fleet import Record
from .trace import LONG, SHORT

RATIOS = ("p50_s", "p95_s", "p99_s", "short_p99_s", "long_p99_s", "requeued", "adapter_reads")
"""Figures of which less is better."""
Figures = dict[str, Any]


def figures(records: Sequence[Record]) -> Figures:
    """Of one router under one load, all seeds together; latencies from when a row was due."""
    visits = [visit for record in records for visit in record.visits]
    found: Figures = {"rows": len(visits)}
    for name, steps in (("", (SHORT, LONG)), ("short_", (SHORT,)), ("long_", (LONG,))):
        latencies = [
            visit.latency_s
            for visit in visits
            if visit.steps in steps and visit.latency_s is not None
        ]
        for percent in (50, 95, 99):
            if latencies:
                found[f"{name}p{percent}_s"] = float(np.percentile(latencies, percent))
    found["failed"] = sum(visit.latency_s is None for visit in visits)
    for name in ("requeued", "adapter_reads", "adapter_switches"):
        found[name] = sum(getattr(record, name) for record in records)
    wall_s = sum(record.wall_s for record in records)
    found["rows_per_s"] = (len(visits) - found["failed"]) / wall_s
    return found


def ratios(of: Mapping[str, Any], to: Mapping[str, Any]) -> Figures:
    """Each as many times the other's; those that are 0 there, or not there, are left out."""
    return {name: of[name] / to[name] for name in RATIOS if name in of and to.get(name)}
