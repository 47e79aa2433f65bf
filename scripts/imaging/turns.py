"""Rivals that take turns in one process, and the median of what each of them takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from statistics import median

import msgspec

Figures = dict[str, float]
"""Of one operation; a rival's milliseconds are `RIVAL_ms`."""

FEWEST = 5
"""Runs of even the slowest rival, where that many rounds were asked for."""


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    rounds: int
    """In each, every rival runs once ..."""
    budget_s: float
    """... but for those that would take longer than this for all of them: they sit some out."""


def medians_ms(rivals: Mapping[str, Callable[[], object]], effort: Effort) -> Figures:
    """Each rival's milliseconds, after one run that is not counted.

    Round after round, so that a busy moment of the machine falls on all.
    """
    every = {name: _every(_run_ms(call), effort) for name, call in rivals.items()}
    found: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(effort.rounds):
        for name, call in rivals.items():
            if turn % every[name] == 0:
                found[name].append(_run_ms(call))
    return {f"{name}_ms": median(each) for name, each in found.items()}


def _every(run_ms: float, effort: Effort) -> int:
    """In every how many-th round a rival runs."""
    affordable = math.ceil(run_ms / 1000 * effort.rounds / effort.budget_s)
    return max(1, min(affordable, effort.rounds // FEWEST))


def _run_ms(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    answer = call()
    took_ms = 1000 * (time.perf_counter() - begun)
    del answer  # kept until here: giving its memory back is no part of the operation
    return took_ms
