"""The report for the eye."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Rows = dict[str, Mapping[str, float]]


def tables(report: Mapping[str, Any]) -> str:
    """The operations, those with the same rivals in one table, then the bars."""
    parts = [_table(rows) for rows in _by_columns(report)]
    parts.append("\n".join([f"{'':60}{'ratio':>10}{'bar':>10}", *_bar_lines(report["bars"])]))
    return "\n\n".join(parts)


def _by_columns(report: Mapping[str, Any]) -> list[Rows]:
    found: dict[tuple[str, ...], Rows] = {}
    for name, figures in report.items():
        if name not in ("about", "bars"):
            found.setdefault(tuple(figures), {})[name] = figures
    return list(found.values())


def _table(rows: Rows) -> str:
    columns = list(next(iter(rows.values())))
    lines = [f"{'':34}" + "".join(f"{column:>20}" for column in columns)]
    for name, figures in rows.items():
        lines.append(f"{name:34}" + "".join(f"{_cell(figures[key]):>20}" for key in columns))
    return "\n".join(lines)


def _bar_lines(bars: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for bar in bars:
        met = "met" if bar["met"] else "NOT MET"
        sign = "<=" if bar["at_most"] else ">="
        yield f"{bar['name']:60}{bar['ratio']:>10.2f}{sign:>4}{bar['bar']:>6g}  {met}"


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
