"""The figures of a benchmark, as they go into the JSON and for the eye."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from rounding import rounded

from .bars import bars
from .bench import Result
from .plan import Row

_ABOUT = ("device_name", "driver", "torch", "diffusers", "transformers", "dtype")


def report(
    results: Mapping[Row, Result], about: Mapping[str, str | int], *, applies: bool
) -> dict[str, Any]:
    """Everything, floats to five digits; ratios are of unrounded figures.

    `applies`: as of the bars.
    """
    found = {row.name: result.figures for row, result in results.items()}
    peak = found.get("matmul", {}).get("tflop_per_s")
    verdicts = [
        msgspec.to_builtins(bar) | {"verdict": bar.verdict(applies=applies)} for bar in bars(found)
    ]
    everything = {
        "about": dict(about),
        "rows": {
            row.name: msgspec.to_builtins(result)
            | {"kind": row.kind, "figures": _with_share(row, result.figures, peak)}
            for row, result in results.items()
        },
        "bars": verdicts,
    }
    five_digits: dict[str, Any] = rounded(everything)
    return five_digits


def _with_share(row: Row, figures: Mapping[str, float], peak: float | None) -> dict[str, float]:
    if row.kind != "step" or peak is None or not figures:
        return {**figures}
    return {**figures, "peak_share": figures["tflop_per_s"] / peak}


def tables(report: Mapping[str, Any]) -> str:
    """What it ran on, a table for each kind of row, the bars."""
    about = report["about"]
    parts = ["Random weights; " + ", ".join(f"{key} {about[key]}" for key in _ABOUT)]
    kinds: dict[str, dict[str, Any]] = {}
    for name, row in report["rows"].items():
        kinds.setdefault(row["kind"], {})[name] = row
    parts += [_table(rows) for rows in kinds.values()]
    parts.append("\n".join(_bar_lines(report["bars"])))
    return "\n\n".join(parts)


def _table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows.values() for key in row["figures"]))
    lines = [f"{'':30}" + "".join(f"{column:>16}" for column in columns)]
    for name, row in rows.items():
        cells = [_cell(row["figures"].get(column)) for column in columns]
        end = "  out of memory" if row["out_of_memory"] else ""
        lines.append(f"{name:30}" + "".join(f"{cell:>16}" for cell in cells) + end)
    return "\n".join(lines)


def _bar_lines(bars: Any) -> Iterator[str]:
    yield f"{'':42}{'':24}{'figure':>10}{'bar':>10}"
    for bar in bars:
        sign = "<=" if bar["at_most"] else ">="
        figure = _cell(bar["value"])
        yield (
            f"{bar['name']:42}{bar['row']:24}{figure:>10}{sign:>4}{bar['bar']:>6g}"
            f"  {bar['verdict']}"
        )


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
