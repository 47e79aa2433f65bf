"""In which order: waiting rows by urgency, running keys by turns, finished rows' decodes by both.

Pure Python; it reads no clock.

Urgency counts model calls; the row with the fewest goes first:

    calls left - ageing * time since it was submitted - priority - deadline + switch

Ageing counts time in steps of a full batch, as they are measured: with the same load in relation to
what the device can do, the order is the same on a slow device and on a fast one. It grows without
bound and everything else is bounded, so in the end time decides.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Protocol, TypeVar

from deployments.requests import Priority

AGEING_CALLS_PER_STEP = 0.3
"""p99 of 8-step rows and of all at 80 % load were 0.84 and 12.2 s with 0.2, 0.86 and 9.4 s with
this, 0.90 and 8.4 s with 0.4; at 92 % 0.91 and 14.8 s, 1.1 and 13.2 s, 1.7 and 12.4 s (simulated;
a full step takes 74 ms)."""

PRIORITY_CALLS = 30.0
"""What `high` has over `normal`, and `normal` over `low`: 100 steps of waiting."""

DEADLINE_CALLS = 90.0
"""What a deadline at risk is worth: 300 steps of waiting."""

AT_RISK_RUNS = 2.0
"""A deadline is at risk once fewer of the row's own runs than these fit before it. Lanes come free
only when another row's run ends: with one run left it would be too late."""

SIT_OUT_STEPS = 3
"""How many steps a running key may be passed over for a more urgent one."""

DECODE_CALLS = 5.0
"""How much more urgent a shorter row must be for a decode to wait for it. At 80 % load this took
p99 of 8-step rows from 1.32 s to 1.18 s and that of all from 8.2 s to 11 s; 10 took them to 1.28 s
and 9.3 s (simulated)."""

SPREAD_CALLS = 20.0
"""How much less urgent than a row that runs one may be to take the last lanes beside it, where each
counts with all its calls: else long rows make every step of a short one longer. At 80 % load this
took p99 of 8-step rows from 1.27 s to 1.18 s and that of all from 11.8 s to 11.6 s, at 95 % from
1.56 s to 1.59 s and from 16.7 s to 17.6 s (simulated)."""

_PRIORITIES: dict[Priority, float] = {"low": PRIORITY_CALLS, "normal": 0.0, "high": -PRIORITY_CALLS}


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


def unaged_rank(entry: Entry) -> float:
    """Urgency without ageing, deadline and switch."""
    return entry.calls_left + _PRIORITIES[entry.priority]


def rank(entry: Entry, ageing_calls_per_s: float) -> float:
    """Urgency at time 0, less deadline and switch. All rows age alike: ranks keep their order."""
    return unaged_rank(entry) + ageing_calls_per_s * entry.submitted_s


def whole_rank(entry: Entry, ageing_calls_per_s: float) -> float:
    """The same with all of the row's calls: a long row near its end is not a short one."""
    return rank(entry, ageing_calls_per_s) + entry.calls - entry.calls_left


def deadline_calls(entry: Entry, call_s: float, now_s: float) -> float:
    """What the row's deadline is worth now, if each of its model calls takes `call_s`.

    Nothing once it cannot be met any more: rows whose deadlines can be met would miss theirs too.
    """
    if entry.deadline_s is None:
        return 0.0
    run_s = entry.calls_left * call_s
    return DEADLINE_CALLS if run_s <= entry.deadline_s - now_s < AT_RISK_RUNS * run_s else 0.0


def decodes_due(finished: Iterable[E], running: Iterable[E], ageing_calls_per_s: float) -> list[E]:
    """Finished rows that are decoded now, most urgent first.

    A decode holds up what runs. So the picture of a long row waits for shorter rows that are more
    urgent, where each counts with all its calls; ageing bounds the wait as it bounds any other, so
    without it none waits. Nor does a row with a deadline.
    """

    ranks = [
        (entry.calls, whole_rank(entry, ageing_calls_per_s))
        for entry in running
        if ageing_calls_per_s
    ]

    def due(entry: E) -> bool:
        worth = whole_rank(entry, ageing_calls_per_s) - DECODE_CALLS
        return entry.deadline_s is not None or not any(
            calls < entry.calls and other < worth for calls, other in ranks
        )

    return sorted(filter(due, finished), key=lambda entry: whole_rank(entry, ageing_calls_per_s))


class Turns:
    """Which running key steps next: the most urgent, but none sits out for ever.

    Of K keys running none sits out more than `SIT_OUT_STEPS + (K - 1) * (1 + S) - 1` steps, where S
    is the dearest switch in whole calls: once a key has sat out SIT_OUT_STEPS, only those that sat
    out as long go before it, once each. A key that something was loaded for stays as many steps
    more as the loading cost, so that loading takes less than half of the time.
    """

    def __init__(self) -> None:
        self._last: Hashable = None
        self._stay = 0.0
        self._sat_out: dict[Hashable, int] = {}

    def next(
        self, urgency: Mapping[Hashable, float], switch_calls: Callable[[Hashable], float]
    ) -> Hashable | None:
        """The key that steps now, of those whose urgency is given; None when there is none."""
        self._sat_out = {key: self._sat_out.get(key, 0) + 1 for key in urgency}
        if not urgency:
            return None
        key = self._choose(urgency, switch_calls)
        self._stay = self._stay - 1 if key == self._last else switch_calls(key)
        self._last = key
        self._sat_out[key] = 0
        return key

    def _choose(
        self, urgency: Mapping[Hashable, float], switch_calls: Callable[[Hashable], float]
    ) -> Hashable:
        if self._last in urgency and self._stay > 0:
            return self._last
        longest = max(self._sat_out, key=self._sat_out.__getitem__)
        if self._sat_out[longest] > SIT_OUT_STEPS:
            return longest

        def cost(key: Hashable) -> float:
            return urgency[key] + (0.0 if key == self._last else switch_calls(key))

        return min(urgency, key=cost)
