"""The report for the eye."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def tables(report: Mapping[str, Any]) -> str:
    """What was measured, then the bars."""
    parts: list[str] = []
    if "http" in report:
        parts += _http(report["http"], report["about"])
    if "saturated" in report:
        parts.append(_table("GET /healthz while saturated with pictures", report["saturated"]))
    if "decode_us" in report:
        parts.append(_table("Decoding a request", {"µs": report["decode_us"]}))
    parts.append("\n".join([f"{'':60}{'ratio':>10}{'bar':>10}", *_bar_lines(report["bars"])]))
    return "\n\n".join(parts)


def _http(http: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[str]:
    one = {name: found for name, found in http.items() if name != "two_ingress_replicas"}
    alone = {"the client alone": about["client_alone"]}
    yield _table("Added by HTTP, one ingress replica", one | alone)
    yield _table("Added by HTTP, two ingress replicas", http["two_ingress_replicas"])


def _table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    columns = next(iter(rows.values()))
    lines = [title, f"{'':18}" + "".join(f"{column:>16}" for column in columns)]
    for name, found in rows.items():
        lines.append(f"{name:18}" + "".join(f"{_cell(found[column]):>16}" for column in columns))
    return "\n".join(lines)


def _bar_lines(bars: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for bar in bars:
        met = "met" if bar["met"] else "NOT MET"
        sign = "<=" if bar["at_most"] else ">="
        yield f"{bar['name']:60}{bar['ratio']:>10.2f}{sign:>4}{bar['bar']:>6g}  {met}"


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
