"""How long the device takes for a call, and how much memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

WARM = 3
"""The first call compiles, the second records CUDA graphs, the third is as all others."""
LEAST, ENOUGH_S = 5, 2.0
"""Calls that are timed at least, and seconds after which they are enough."""


def warmed(call: Callable[[], Any]) -> float:
    """Seconds until the call was warm."""
    begun_s = time.perf_counter()
    for _ in range(WARM):
        call()
    _wait()
    return time.perf_counter() - begun_s


def median_s(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Seconds of a warm call; on CUDA between events on its stream."""
    timed = _timed_on_cuda if device.type == "cuda" else _timed
    seconds: list[float] = []
    while len(seconds) < repeats and (len(seconds) < LEAST or sum(seconds) < ENOUGH_S):
        seconds.append(timed(call))
    return statistics.median(seconds)


def peak_mib(device: torch.device) -> dict[str, float]:
    """{"peak_mib": of the device's memory since it was last asked to forget}; nothing of a CPU."""
    if device.type != "cuda":
        return {}
    return {"peak_mib": torch.cuda.max_memory_allocated(device) / 2**20}


def _timed(call: Callable[[], Any]) -> float:
    begun_s = time.perf_counter()
    call()
    return time.perf_counter() - begun_s


def _timed_on_cuda(call: Callable[[], Any]) -> float:
    """As in the engine, each call is waited for before the next one."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
