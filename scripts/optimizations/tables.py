"""The report for the eye."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLUMNS = ("step_ms", "images_per_s", "peak_mib", "max_diff", "psnr_db")


def tables(report: Mapping[str, Any]) -> str:
    """A line for each switch; what was skipped or failed comes last, with the reason."""
    rows = {name: figures for name, figures in report.items() if name != "about"}
    lines = [f"{'':26}" + "".join(f"{column:>14}" for column in COLUMNS)]
    for name, figures in rows.items():
        if "step_ms" in figures:
            lines.append(f"{name:26}" + "".join(_cell(figures.get(column)) for column in COLUMNS))
    lines.append("")
    for why in ("skipped", "failed"):
        lines += [f"{name:26}{why}: {row[why]}" for name, row in rows.items() if why in row]
    best = report["about"].get("best")
    return "\n".join([*lines, f"best: {best}"] if best else lines)


def _cell(figure: float | None) -> str:
    """Without a baseline there is no difference."""
    return f"{'-':>14}" if figure is None else f"{figure:>14.5g}"
