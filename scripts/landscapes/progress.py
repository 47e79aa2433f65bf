"""One line every few seconds while a stage runs."""

from __future__ import annotations

import time


class Progress:
    """Prints step, loss, speed and time left of one training stage."""

    def __init__(self, stage: str, start: int, total: int, every_s: float = 15.0) -> None:
        self._stage, self._start, self._total, self._every_s = stage, start, total, every_s
        self._began = self._printed = time.monotonic()
        self._loss: float | None = None

    def report(self, step: int, loss: float) -> None:
        """Call after every step; `step` counts from 1."""
        self._loss = loss if self._loss is None else 0.98 * self._loss + 0.02 * loss
        now = time.monotonic()
        if now - self._printed < self._every_s and step != self._total:
            return
        self._printed = now
        speed = (step - self._start) / (now - self._began)
        left_min = (self._total - step) / speed / 60
        print(
            f"{self._stage}: step {step}/{self._total}  loss {self._loss:.4f}  "
            f"{speed:.2f} it/s  {left_min:.1f} min left",
            flush=True,
        )
