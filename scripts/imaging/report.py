"""The figures of a benchmark, as they go into the JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from rounding import rounded

from imaging.bars import bars
from imaging.turns import Figures


def report(operations: Mapping[str, Figures], about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, floats to five digits. Ratios are of unrounded figures."""
    verdicts = [msgspec.to_builtins(bar) | {"met": bar.met} for bar in bars(operations)]
    five_digits: dict[str, Any] = rounded({"about": dict(about), **operations, "bars": verdicts})
    return five_digits
