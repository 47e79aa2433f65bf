"""Rows, one at a time: each is measured, or found in the work file."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence

import msgspec
import torch
from batching.workfile import WorkFile

from .plan import Row


class Result(msgspec.Struct, kw_only=True):
    """What a row gave."""

    figures: dict[str, float] = {}
    out_of_memory: bool = False
    """Then there are no figures: that is what was found."""


class Bench:
    """The rows of one device and one set of versions."""

    def __init__(self, measure: Callable[[Row], dict[str, float]], done: WorkFile[str]) -> None:
        """`done` knows rows by their names."""
        self._measure, self._done = measure, done
        self.failed: list[str] = []
        """Names of the rows that raised."""

    def run(self, rows: Sequence[Row]) -> None:
        """All of them. One that raises is told of and not kept, and the next one has its turn: the
        time on a device may be short."""
        for row in rows:
            if row.name in self._done:
                continue
            try:
                result = self._result(row)
            except Exception:
                traceback.print_exc()
                self.failed.append(row.name)
                continue
            self._done.put(row.name, result)
            print(_said(row.name, result), flush=True)

    def results(self, rows: Iterable[Row]) -> dict[Row, Result]:
        """Those of these rows that were measured, now or before."""
        return {row: self._done.get(row.name, Result) for row in rows if row.name in self._done}

    def _result(self, row: Row) -> Result:
        try:
            return Result(figures=self._measure(row))
        except torch.OutOfMemoryError:
            return Result(out_of_memory=True)


def _said(name: str, result: Result) -> str:
    """One line."""
    figures = ", ".join(f"{key} {value:.4g}" for key, value in result.figures.items())
    return f"{name}: {'out of memory' if result.out_of_memory else figures}"
