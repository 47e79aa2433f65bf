"""The work file: one line for each finished run, so that a long benchmark can be interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from .records import Run

_T = TypeVar("_T")


class _Line(msgspec.Struct):
    settings: dict[str, str | int]
    run: Run
    result: msgspec.Raw


class WorkFile:
    """Runs that were done with the same settings. It cannot see that code has changed."""

    def __init__(self, path: Path | None, settings: dict[str, str | int]) -> None:
        """`None` keeps the runs in memory alone."""
        self._path, self._settings = path, settings
        self._results: dict[Run, msgspec.Raw] = {}
        if path is not None and path.exists():
            for line in _whole_lines(path):
                if line.settings == settings:
                    self._results[line.run] = line.result

    def __contains__(self, run: Run) -> bool:
        return run in self._results

    def get(self, run: Run, kind: type[_T]) -> _T:
        """What a run that was done has given."""
        return msgspec.json.decode(self._results[run], type=kind)

    def put(self, run: Run, result: object) -> None:
        """Appends a run."""
        raw = msgspec.Raw(msgspec.json.encode(result))
        self._results[run] = raw
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(_Line(self._settings, run, raw)) + b"\n")


def _whole_lines(path: Path) -> list[_Line]:
    """The lines; what a kill left of the last one is cut away, so that the next starts anew."""
    whole, newline, _ = path.read_bytes().rpartition(b"\n")
    path.write_bytes(whole + newline)
    return [msgspec.json.decode(line, type=_Line) for line in whole.splitlines()]
