"""The report for the eye."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLUMNS = {
    "p50 s": "p50_s",
    "p95 s": "p95_s",
    "p99 s": "p99_s",
    "short p99": "short_p99_s",
    "long p99": "long_p99_s",
    "requeued": "requeued",
    "failed": "failed",
    "reads": "adapter_reads",
    "switches": "adapter_switches",
    "rows": "rows",
}


def tables(report: Mapping[str, Any]) -> str:
    """Every part and load: the figures, then the ratios to Serve's router."""
    return "\n\n".join(
        _table(f"{part}, {load}", routers)
        for part, loads in report.items()
        if part != "about"
        for load, routers in loads.items()
    )


def _table(title: str, routers: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [title, f"{'':28}" + "".join(f"{column:>11}" for column in COLUMNS)]
    for router, found in routers.items():
        lines.append(_line(router, found))
        if "to_power_of_two" in found:
            lines.append(_line("  of power_of_two's", found["to_power_of_two"]))
    return "\n".join(lines)


def _line(name: str, found: Mapping[str, Any]) -> str:
    cells = (_cell(found.get(key)) for key in COLUMNS.values())
    return f"{name:28}" + "".join(f"{cell:>11}" for cell in cells)


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3g}"
