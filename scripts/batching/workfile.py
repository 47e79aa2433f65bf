"""The work file: one line for each finished run, so that a long benchmark can be interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

import msgspec

_R = TypeVar("_R")
_T = TypeVar("_T")


class _Line(msgspec.Struct):
    settings: dict[str, str | int]
    run: msgspec.Raw
    result: msgspec.Raw


class WorkFile(Generic[_R]):
    """Runs that were done with the same settings. It cannot see that code has changed."""

    def __init__(
        self, path: Path | None, settings: dict[str, str | int], run_type: type[_R]
    ) -> None:
        """`None` keeps the runs in memory alone; `run_type` is what identifies one, hashable."""
        self._path, self._settings = path, settings
        self._results: dict[_R, msgspec.Raw] = {}
        if path is not None and path.exists():
            for line in _whole_lines(path):
                if line.settings == settings:
                    self._results[msgspec.json.decode(line.run, type=run_type)] = line.result

    def __contains__(self, run: _R) -> bool:
        return run in self._results

    def get(self, run: _R, kind: type[_T]) -> _T:
        """What a run that was done has given."""
        return msgspec.json.decode(self._results[run], type=kind)

    def put(self, run: _R, result: object) -> None:
        """Appends a run."""
        raw = msgspec.Raw(msgspec.json.encode(result))
        self._results[run] = raw
        if self._path is not None:
            line = _Line(self._settings, msgspec.Raw(msgspec.json.encode(run)), raw)
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(line) + b"\n")


def _whole_lines(path: Path) -> list[_Line]:
    """The lines; what a kill left of the last one is cut away, so that the next starts anew."""
    whole, newline, _ = path.read_bytes().rpartition(b"\n")
    path.write_bytes(whole + newline)
    return [msgspec.json.decode(line, type=_Line) for line in whole.splitlines()]
