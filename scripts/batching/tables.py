"""The report for the eye."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

COLUMNS = {
    "images/s": "images_per_s",
    "p50 s": "p50_s",
    "p95 s": "p95_s",
    "p99 s": "p99_s",
    "8-step p50": "short_p50_s",
    "8-step p99": "short_p99_s",
    "lanes/step": "lanes_per_step",
    "not in model": "outside_model_share",
    "jobs": "jobs",
    "wrong": "wrong_pictures",
    "failed": "failed",
}
TITLES = {
    "loads": "of what stepwise serves when saturated",
    "mixed": "of the same, with guidance, samplers and image-to-image mixed as well",
    "loads_of_static": "of what static_per_key serves when saturated",
}


def tables(report: Mapping[str, Any]) -> str:
    """Every load, then saturation, then the bars."""
    parts = [
        _table(f"At {float(load):.0%} {title}", systems)
        for kind, title in TITLES.items()
        for load, systems in report[kind].items()
    ]
    saturation = report["saturation"]
    parts.append(_table("Saturated", saturation["systems"]))
    parts.append(
        f"A bare diffusers loop {saturation['diffusers_loop_images_per_s']:.3g} images/s, "
        f"the ceiling {saturation['ceiling_images_per_s']:.3g} images/s"
    )
    parts.append(_bar_table(report["bars"]))
    return "\n\n".join(parts)


def _table(title: str, systems: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [title, f"{'':18}" + "".join(f"{column:>13}" for column in COLUMNS)]
    for name, found in systems.items():
        cells = [_cell(found[key]) for key in COLUMNS.values()]
        cut = "  cut off" if found["cut_off"] else ""
        lines.append(f"{name:18}" + "".join(f"{cell:>13}" for cell in cells) + cut)
    return "\n".join(lines)


def _bar_table(bars: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join([f"{'':60}{'ratio':>10}{'bar':>8}", *_bar_lines(bars)])


def _bar_lines(bars: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for bar in bars:
        ratio = f"{'>= ' if bar['at_least'] else ''}{bar['ratio']:.2f}"
        met = "met" if bar["met"] else "NOT MET"
        yield f"{bar['name']:60}{ratio:>10}{bar['least']:>8g}  {met}"


def _cell(value: float | None) -> str:
    if isinstance(value, int):
        return str(value)
    return "-" if value is None else f"{value:.3g}"
