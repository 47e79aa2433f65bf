"""How rows left the engine: each one exactly once, whoever answered it."""

import threading
from collections import Counter
from concurrent.futures import Future
from typing import Literal

from deployments.errors import AdapterFailed, GenerationFailed, InvalidRequest, Requeue
from deployments.requests import ImageResult

Outcome = Literal["done", "cancelled", "requeued", "refused", "adapter-failed", "failed", "lost"]


class Answers:
    """Counts outcomes. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def heard(self, future: Future[ImageResult]) -> None:
        """A row's future is done."""
        outcome = outcome_of(future)
        with self._lock:
            self._counts[outcome] += 1

    def counts(self) -> Counter[str]:
        """Rows by outcome, so far."""
        with self._lock:
            return self._counts.copy()


def outcome_of(future: Future[ImageResult]) -> Outcome:
    """What became of the row whose future is done."""
    if future.cancelled():
        return "cancelled"
    match future.exception():
        case None:
            return "done"
        case Requeue():
            return "requeued"
        case InvalidRequest():
            return "refused"
        case AdapterFailed():
            return "adapter-failed"
        case GenerationFailed():
            return "failed"
    return "lost"
