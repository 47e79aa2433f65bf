"""Spans of time: how much of it they cover, and those in which the model runs."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch

_F = TypeVar("_F", bound=Callable[..., Any])

Span = tuple[float, float]
"""Begin and end, in seconds."""


def covered_s(spans: Iterable[Span]) -> float:
    """Seconds covered by at least one span."""
    covered, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return covered


class ModelClock:
    """Notes when the UNet, the autoencoder or the text encoder runs.

    On CUDA the marks are events on the stream, so they tell what the device did; gaps between the
    kernels of one call count as the model's.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._spans: list[tuple[Any, Any]] = []
        self._origin = self._mark()

    def reset(self) -> None:
        """Forgets what was noted."""
        self._spans, self._origin = [], self._mark()

    def model_s(self) -> float:
        """Seconds since the reset in which the model ran."""
        if self._on_cuda:
            torch.cuda.synchronize()
        return covered_s((self._seconds(begin), self._seconds(end)) for begin, end in self._spans)

    def timed(self, function: _F) -> _F:
        """The function, its calls noted."""

        @functools.wraps(function)
        def noted(*args: Any, **kwargs: Any) -> Any:
            begin = self._mark()
            try:
                return function(*args, **kwargs)
            finally:
                self._spans.append((begin, self._mark()))

        return cast(_F, noted)

    @contextmanager
    def watching(self, *methods: tuple[type, str]) -> Iterator[None]:
        """Notes every call of these classes' methods, whoever makes it."""
        originals = [(owner, name, getattr(owner, name)) for owner, name in methods]
        for owner, name, method in originals:
            setattr(owner, name, self.timed(method))
        try:
            yield
        finally:
            for owner, name, method in originals:
                setattr(owner, name, method)

    def _mark(self) -> Any:
        if not self._on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _seconds(self, mark: Any) -> float:
        return float(self._origin.elapsed_time(mark)) / 1e3 if self._on_cuda else float(mark)
