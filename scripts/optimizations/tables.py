"""The report for the eye."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLUMNS = ("step_ms", "images_per_s", "peak_mib", "max_diff", "psnr_db")


def tables(report: Mapping[str, Any]) -> str:
    """A line for each switch; what was skipped comes last, with the reason."""
    rows = {name: figures for name, figures in report.items() if name != "about"}
    lines = [f"{'':26}" + "".join(f"{column:>14}" for column in COLUMNS)]
    for name, figures in rows.items():
        if "skipped" not in figures:
            cells = "".join(f"{figures[column]:>14.5g}" for column in COLUMNS)
            lines.append(f"{name:26}{cells}")
    lines.append("")
    lines += [f"{n:26}skipped: {f['skipped']}" for n, f in rows.items() if "skipped" in f]
    best = report["about"].get("best")
    return "\n".join([*lines, f"best: {best}"] if best else lines)
