"""What a system is to the load, and the names of all of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from deployments.imaging.codecs import encode

from .trace import Job

WITH_BARS = ("stepwise", "static_per_key", "static_sjf", "serve_batch_naive")
"""Those with which the figures of the README are made; they run first."""
SYSTEMS = (*WITH_BARS, "stepwise_fifo", "sequential", "threads")
PREVIEWED = "stepwise_previews"
"""The engine when everybody watches; only to tell what that costs."""


class Picture(Protocol):
    """An answer."""

    @property
    def content(self) -> bytes:
        """A PNG."""


class Work(NamedTuple):
    """What the denoiser has done since the system was opened."""

    forwards: int
    lanes: int
    """Of all those forwards, padding left out."""


@dataclass(frozen=True, slots=True)
class System:
    """One way to serve jobs, warm."""

    submit: Callable[[Job], Future[Picture]]
    """Called from one thread. Cancelling the future of a job that waits takes it out."""
    work: Callable[[], Work]


@dataclass(frozen=True, slots=True)
class Png:
    """The answer of a baseline."""

    content: bytes


def png(pixels: NDArray[np.uint8]) -> Png:
    """Encoded by the codec that the engine uses."""
    return Png(encode(pixels, "png", 100))
