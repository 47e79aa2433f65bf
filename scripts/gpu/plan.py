"""Which rows there are, and in which order: what has a bar comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from .models import MODELS

Kind = Literal["matmul", "engine", "alone", "loop", "parts", "step"]

MODES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {"compile": "default"},
        "eager": {},
        "regional": {"compile": "default", "compile_scope": "regional"},
        "reduce-overhead": {"compile": "reduce-overhead"},
        "max-autotune": {"compile": "max-autotune"},
        "int8": {"compile": "default", "quantization": "int8-dynamic"},
        "fp8": {"compile": "default", "quantization": "fp8-dynamic"},
    }
)
"""What a mode sets of DiffusionSettings."""
USUAL_MODES = ("default", "eager")
"""The others are run when they are asked for, but for the rows of `FIRST`."""

LANES, TOY_LANES = (1, 2, 4, 8, 16), (1, 2)


class Row(NamedTuple):
    """One measurement."""

    kind: Kind
    model: str = ""
    mode: str = ""
    lanes: int = 0

    @property
    def name(self) -> str:
        """As `sdxl/step/default/4`."""
        parts = (self.model, self.kind, self.mode, self.lanes)
        return "/".join(str(part) for part in parts if part)


FIRST = (
    Row("matmul"),
    Row("engine", "sd15", "default"),
    Row("loop", "sd15"),
    Row("engine", "sdxl", "default"),
    Row("engine", "sdxl", "fp8"),
    Row("alone", "flux", "regional"),
)
"""With these a lease that is over soon has said what has a bar."""
TOY_COMPILED = (Row("engine", "sd15", "default"), Row("step", "sd15", "default", 2))
"""Compiling takes a CPU longer than all else."""


def all_rows(*, toy: bool) -> list[Row]:
    """In the order in which they are run."""
    rows = [*FIRST]
    rows += [Row("loop", model) for model in MODELS]
    for mode in MODES:
        rows += [Row("engine", model, mode) for model in MODELS]
    rows += [Row("parts", model) for model in MODELS]
    for mode in MODES:
        rows += [Row("alone", model, mode) for model in MODELS]
    for lanes in TOY_LANES if toy else LANES:
        for mode in MODES:
            rows += [Row("step", model, mode, lanes) for model in MODELS]
    return list(dict.fromkeys(rows))


def chosen_rows(patterns: Sequence[str], *, toy: bool) -> list[Row]:
    """Those whose name fits one of the patterns; without any, the usual ones.

    Raises ValueError for a pattern that no name fits.
    """
    rows = all_rows(toy=toy)
    for pattern in patterns:
        if not any(fnmatchcase(row.name, pattern) for row in rows):
            raise ValueError(f"no row fits {pattern!r}; --list says which there are")
    if patterns:
        return [row for row in rows if any(fnmatchcase(row.name, each) for each in patterns)]
    return [row for row in rows if is_usual(row, toy=toy)]


def is_usual(row: Row, *, toy: bool) -> bool:
    """Whether the row is run when none is asked for."""
    if toy:
        return row.mode in ("", "eager") or row in TOY_COMPILED
    return not row.mode or row.mode in USUAL_MODES or row in FIRST
