"""Which replica a row goes to. Pure: it knows neither Ray nor clocks, and chance is passed in.

Where batches are not full, a row more makes each step longer, and rows of any length spread. Where
they are, work decides. (Simulated: by work alone short rows crowd where no long one is, and their
p99 is up to 90 % longer, while that of all is the same.)
"""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

ASKED = 4
"""Replicas that a row asks. Of eight, two gave a p99 17 % longer, and all of them the same
(simulated)."""


class Prospect(NamedTuple):
    """What a row meets at a replica."""

    full: float = 0.0
    """The share of its batch that is taken; 1 also if others wait already."""
    work_s: float = 0.0
    """What is there before the row."""
    read_s: float = 0.0
    """Reading those of its adapters that are not there."""
    refused: bool = False
    """It was sent there a moment ago, and came back."""

    @property
    def cost_s(self) -> float:
        """Work and reading."""
        return self.work_s + self.read_s


def to_ask(prospects: Sequence[Prospect], random: Random, most: int = ASKED) -> list[int]:
    """Places of those that are to be asked: `most`, and as many of those with the least to read.

    Without those that the row has met, as long as there are others.
    """
    fresh = _fresh(prospects)
    warm = _warm(prospects, fresh)
    chosen = random.sample(fresh, min(most, len(fresh)))
    if len(warm) < len(fresh):
        chosen += random.sample(warm, min(most, len(warm)))
    return list(dict.fromkeys(chosen))


def preferred(prospects: Sequence[Prospect], random: Random) -> list[int]:
    """All places, in the order in which the replicas are to be tried.

    Those with the least to read come first, unless at another one reading takes less than waiting.
    """
    fresh = _fresh(prospects)
    warm = set(_warm(prospects, fresh))
    stay_s = min((prospects[i].cost_s for i in warm), default=0.0)
    stay = all(prospects[i].cost_s >= stay_s for i in fresh)

    def key(i: int) -> tuple[bool, bool, float, float, float]:
        met = prospects[i]
        return met.refused, stay and i not in warm, met.full, met.cost_s, random.random()

    return sorted(range(len(prospects)), key=key)


def _fresh(prospects: Sequence[Prospect]) -> list[int]:
    """Those that the row has not met, or all."""
    places = range(len(prospects))
    return [i for i in places if not prospects[i].refused] or list(places)


def _warm(prospects: Sequence[Prospect], fresh: Sequence[int]) -> list[int]:
    """Those of them with the least to read."""
    least_s = min((prospects[i].read_s for i in fresh), default=0.0)
    return [i for i in fresh if prospects[i].read_s == least_s]
