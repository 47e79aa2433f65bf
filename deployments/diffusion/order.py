"""In which order: waiting rows by urgency, running keys by turns, finished rows' decodes by both.

Pure Python; it reads no clock.

Urgency counts halvings: of two rows the one with half of the other's model calls left has one less.
The row with the least goes first:

    log2(1 + calls left + switch) - ageing * time since it was submitted - priority - deadline

So a row may overtake one that is twice as long, whatever both lengths are, until the longer one has
waited for `ageing_steps` steps longer. (Where a call counted as much in a long run as in a short
one, p99 of 8-step rows was 2 % higher at 80 % load and 13 % at 92 %, and that of all 13 % and 3 %.)
Time counts in steps of a full batch, as they are measured: with the same load in relation to what
the device can do, the order is the same on a slow device and on a fast one. Ageing grows without
bound and everything else is bounded, so in the end time decides.

All figures here are simulated: the embedded model's costs on two cores, where a full step takes
83 ms beside the service's other work, and ten traces of scripts/bench_batching.py.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Protocol, TypeVar

from deployments.requests import Priority

AGEING_STEPS = 60.0
"""p99 of 8-step rows and of all at 80 % load are 0.83 and 9.0 s with 75, 0.84 and 8.4 s with this,
0.83 and 8.2 s with 50; at 92 % 0.88 and 12.8 s, 0.90 and 12.2 s, 0.93 and 11.6 s."""

PRIORITY_HALVINGS = 1.5
"""What `high` has over `normal`, and `normal` over `low`: 90 steps of waiting, by default."""

DEADLINE_HALVINGS = 4.0
"""What a deadline at risk is worth: 240 steps of waiting, by default."""

AT_RISK_RUNS = 2.0
"""A deadline is at risk once fewer of the row's own runs than these fit before it. Lanes come free
only when another row's run ends: with one run left it would be too late."""

SIT_OUT_STEPS = 3
"""How many steps a running key may be passed over for a more urgent one."""

DECODE_HALVINGS = 0.25
"""How much more urgent a shorter row must be for a decode to wait for it. At 80 % load this takes
p99 of 8-step rows from 0.91 s to 0.84 s, and that of all from 8.0 s to 8.4 s."""

SPREAD_HALVINGS = 1.0
"""How much less urgent than a row that runs one may be to take the last lanes beside it, where each
counts with all its calls: else long rows make every step of a short one longer. At 80 % load this
takes p99 of 8-step rows from 0.87 s to 0.84 s and that of all from 8.0 s to 8.4 s, at 92 % from
0.94 s to 0.90 s and from 11.5 s to 12.2 s."""

_PRIORITIES: dict[Priority, float] = {
    "low": PRIORITY_HALVINGS,
    "normal": 0.0,
    "high": -PRIORITY_HALVINGS,
}


class Entry(Protocol):
    """What the queue needs to know of a row. While the row waits, only `gone` may change."""

    @property
    def key(self) -> Hashable:
        """Rows of one key can share a forward."""

    @property
    def weight(self) -> float:
        """What the row takes of the capacity, in lanes of the native size; at least one."""

    @property
    def calls(self) -> int:
        """Model calls of the whole run."""

    @property
    def calls_left(self) -> int:
        """Model calls still to do."""

    @property
    def lane_calls_left(self) -> float:
        """Work still to do: the lanes of every model call left, in lanes of the native size."""

    @property
    def submitted_s(self) -> float:
        """When it arrived, on the clock whose time is passed in."""

    @property
    def deadline_s(self) -> float | None:
        """When it should be done, on the same clock."""

    @property
    def priority(self) -> Priority:
        """As it was asked for."""

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it any more."""


E = TypeVar("E", bound=Entry)


def urgency(
    entry: Entry, ageing_per_s: float, *, switch_calls: float, call_s: float, now_s: float
) -> float:
    """In halvings, for a row each of whose model calls takes `call_s`; the least goes first."""
    left = _rank(entry, entry.calls_left + switch_calls, ageing_per_s)
    return left - _deadline_halvings(entry, call_s, now_s)


def whole_rank(entry: Entry, ageing_per_s: float) -> float:
    """With all of the row's calls: a long row near its end is not a short one."""
    return _rank(entry, entry.calls, ageing_per_s)


def _rank(entry: Entry, calls: float, ageing_per_s: float) -> float:
    # At time 0: at one rate of ageing all rows age alike, so the time does not matter. Ranks at two
    # rates do not compare.
    aged = ageing_per_s * entry.submitted_s
    return math.log2(1 + calls) + aged + _PRIORITIES[entry.priority]


def _deadline_halvings(entry: Entry, call_s: float, now_s: float) -> float:
    # Nothing once it cannot be met any more: rows whose deadlines can be met would miss theirs too.
    if entry.deadline_s is None:
        return 0.0
    run_s = entry.calls_left * call_s
    return DEADLINE_HALVINGS if run_s <= entry.deadline_s - now_s < AT_RISK_RUNS * run_s else 0.0


def decodes_due(finished: Iterable[E], running: Iterable[E], ageing_per_s: float) -> list[E]:
    """Finished rows that are decoded now, most urgent first.

    A decode holds up what runs. So the picture of a long row waits for shorter rows that are more
    urgent, where each counts with all its calls; ageing bounds the wait as it bounds any other. A
    row with a deadline does not wait.
    """
    ranks = [(entry.calls, whole_rank(entry, ageing_per_s)) for entry in running]

    def due(entry: E) -> bool:
        worth = whole_rank(entry, ageing_per_s) - DECODE_HALVINGS
        return entry.deadline_s is not None or not any(
            calls < entry.calls and other < worth for calls, other in ranks
        )

    return sorted(filter(due, finished), key=lambda entry: whole_rank(entry, ageing_per_s))


class Turns:
    """Which running key steps next: the most urgent, but none sits out for ever.

    Of K keys running none sits out more than `SIT_OUT_STEPS + (K - 1) * (1 + S) - 1` steps, where S
    is the dearest switch in whole calls: once a key has sat out SIT_OUT_STEPS, only those that sat
    out as long go before it, once each. A key that something was loaded for stays as many steps
    more as the loading cost, so that loading takes less than half of the time.
    """

    def __init__(self) -> None:
        self.last: Hashable = None
        """The key that stepped last: what it needs is loaded."""
        self._stay = 0.0
        self._sat_out: dict[Hashable, int] = {}

    def next(
        self, urgency: Mapping[Hashable, float], switch_calls: Callable[[Hashable], float]
    ) -> Hashable | None:
        """The key that steps now, of those whose urgency is given; None when there is none.

        Every urgency but that of `last` holds what loading its key costs, which is `switch_calls`.
        """
        self._sat_out = {key: self._sat_out.get(key, 0) + 1 for key in urgency}
        if not urgency:
            return None
        key = self._choose(urgency)
        self._stay = self._stay - 1 if key == self.last else switch_calls(key)
        self.last = key
        self._sat_out[key] = 0
        return key

    def _choose(self, urgency: Mapping[Hashable, float]) -> Hashable:
        if self.last in urgency and self._stay > 0:
            return self.last
        longest = max(self._sat_out, key=self._sat_out.__getitem__)
        if self._sat_out[longest] > SIT_OUT_STEPS:
            return longest
        return min(urgency, key=urgency.__getitem__)
