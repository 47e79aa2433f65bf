"""Where the time of the engine's thread goes. Knows no torch."""

import threading
from collections.abc import Callable
from typing import Literal, get_args

Phase = Literal["idle", "admit", "encode", "choose", "model", "report", "decode"]
"""In a step's order; `choose` is the batch and its adapters, `report` progress and previews."""


class Phases:
    """Seconds in each phase; the thread is always in exactly one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds = dict.fromkeys(get_args(Phase), 0.0)
        self._phase: Phase = "idle"
        self._since_s = clock()

    def enter(self, phase: Phase) -> None:
        """The thread does this from now on."""
        with self._lock:
            self._pass()
            self._phase = phase

    def seconds(self) -> dict[str, float]:
        """Until now, with the phase that still lasts. For any thread."""
        with self._lock:
            self._pass()
            return dict(self._seconds)

    def _pass(self) -> None:
        now_s = self._clock()
        self._seconds[self._phase] += now_s - self._since_s
        self._since_s = now_s
