"""Which rows arrive, when, and at which caller: one trace for each seed, the same for every router.

Times are in mean gaps between arrivals, so that one trace serves every load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from batching.trace import Form, bench_row

from deployments.requests import AdapterUse, Row

T = TypeVar("T")

CALLERS = 2
SHORT, LONG = 4, 50
"""Steps."""
BLOCK = 10
"""Rows in which every number of steps occurs as often as in all."""


class Mix(NamedTuple):
    """What rows are like."""

    long_share: float
    """Of the rows, that take `LONG` steps."""
    form: Form
    adapters: tuple[str, ...] = ()
    """Each row has one of these, all equally often; or none where there are none."""

    @property
    def block(self) -> list[int]:
        """Steps of `BLOCK` rows."""
        longs = round(self.long_share * BLOCK)
        return [LONG] * longs + [SHORT] * (BLOCK - longs)


class Job(msgspec.Struct, frozen=True):
    """One row and its arrival."""

    arrival: float
    """In mean gaps since the first."""
    caller: int
    row: Row


def trace(seed: int, count: int, mix: Mix) -> list[Job]:
    """Poisson arrivals, each at a random caller."""
    random = np.random.default_rng(seed)
    arrivals = np.cumsum(random.exponential(size=count))
    steps = _shuffled(random, count, mix.block)
    uses = _shuffled(random, count, [(AdapterUse(name, 1.0),) for name in mix.adapters] or [()])
    jobs = []
    for number in range(count):
        row = bench_row(
            f"{seed}-{number}",
            mix.form,
            seed,
            number,
            steps=steps[number],
            output_format="jpeg",
            adapters=uses[number],
        )
        since_first = float(arrivals[number] - arrivals[0])
        jobs.append(Job(since_first, int(random.integers(CALLERS)), row))
    return jobs


def _shuffled(random: np.random.Generator, count: int, block: Sequence[T]) -> list[T]:
    """The block again and again, each time in another order."""
    orders = [random.permutation(len(block)) for _ in range(-(-count // len(block)))]
    return [block[place] for order in orders for place in order][:count]
