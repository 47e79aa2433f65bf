"""Rounding of a benchmark's figures for its JSON."""

from __future__ import annotations

from typing import Any


def rounded(value: Any) -> Any:
    """Dicts and lists of figures, floats to five digits; keys become text."""
    if isinstance(value, dict):
        return {str(key): rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
