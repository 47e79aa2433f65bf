"""The figures of a benchmark, as they go into the JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from rounding import rounded

from .bars import bars
from .figures import DecodeFigures, HttpFigures, SaturatedFigures


class Found(msgspec.Struct, kw_only=True):
    """What was measured; parts that were left out are empty."""

    http: dict[int, dict[str, HttpFigures]] = {}
    """Ingress replicas -> service -> figures."""
    saturated: dict[str, SaturatedFigures] = {}
    decode: DecodeFigures | None = None
    about: dict[str, Any] = {}


def report(found: Found) -> dict[str, Any]:
    """Everything, floats to five digits. Ratios are of unrounded figures."""
    everything: dict[str, Any] = {}
    if found.http:
        everything["http"] = {**found.http[1], "two_ingress_replicas": found.http[2]}
    if found.saturated:
        everything["healthz_p99_ms_saturated"] = _healthz(found.saturated)
        everything["saturated"] = found.saturated
    if found.decode is not None:
        everything["decode_us"] = found.decode
    everything["bars"] = [
        msgspec.to_builtins(bar) | {"met": bar.met}
        for bar in bars(found.http.get(1, {}), found.saturated, found.decode)
    ]
    everything["about"] = found.about
    five_digits: dict[str, Any] = rounded(msgspec.to_builtins(everything))
    return five_digits


def _healthz(saturated: Mapping[str, SaturatedFigures]) -> dict[str, float]:
    p99_ms = {name: each.healthz_p99_ms for name, each in saturated.items()}
    return {**p99_ms, "def_wrong_pictures": saturated["def"].wrong_pictures}
