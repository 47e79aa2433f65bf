"""What goes into the JSON, and the arithmetic of it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec
import numpy as np


class HttpFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A service whose engine takes no time: its latency is all added."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    """From request to answer, one request at a time."""
    rps: float
    """Answers per second, several connections at once."""


class SaturatedFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A service that makes pictures as fast as it can, and its GET /healthz meanwhile."""

    healthz_p50_ms: float
    healthz_p99_ms: float
    probes: int
    pictures: int
    wrong_pictures: int
    """Other pictures than the same service gives for the same request when it is alone."""
    failed: int
    """Answered with another status than 200."""


class DecodeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds for one request body."""

    msgspec: float
    pydantic: float


def http_figures(latencies_ms: Sequence[float], rps: float) -> HttpFigures:
    """Those of one round."""
    p50, p95, p99 = (percentile(latencies_ms, percent) for percent in (50, 95, 99))
    return HttpFigures(p50_ms=p50, p95_ms=p95, p99_ms=p99, rps=rps)


def median_of(rounds: Sequence[HttpFigures]) -> HttpFigures:
    """Each figure's median over the rounds."""
    return HttpFigures(
        **{
            name: median(getattr(each, name) for each in rounds)
            for name in HttpFigures.__struct_fields__
        }
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear between neighbours."""
    return float(np.percentile(values, percent))
