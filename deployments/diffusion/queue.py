"""Which rows run next. Pure Python: it knows no torch, and time is passed in.

Rows wait here, where their cost is known, and the queue is bounded in seconds of measured work:
past `max_queue_s` a row is answered with `Requeue`, so that no backlog is pinned to one replica.
Room goes first to the row with the fewest model calls left, whatever its key; every second waited
counts as `AGEING_CALLS_PER_S` calls less, so that long rows cannot starve. Running keys take turns.
"""

from collections.abc import Hashable, Iterable
from typing import Generic, Protocol, TypeVar

from deployments.errors import Requeue

AGEING_CALLS_PER_S = 3.0
"""At 80 % load this took p99 of 8-step rows from 6.2 s (first come) to 0.83 s (simulated)."""

LEARNING_RATE = 0.1
"""Of the last step against all before it: ten steps forget a machine that was busy at warm-up."""


class Entry(Protocol):
    """What the queue needs to know of a row."""

    @property
    def key(self) -> Hashable:
        """Rows of one key can share a forward."""

    @property
    def weight(self) -> float:
        """What the row takes of the capacity, in lanes of the native size."""

    @property
    def calls_left(self) -> int:
        """Model calls still to do."""

    @property
    def submitted_s(self) -> float:
        """When it arrived, on the clock whose time is passed in."""

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it any more."""


E = TypeVar("E", bound=Entry)


class StepQueue(Generic[E]):
    """Waiting rows of all keys."""

    def __init__(self, *, max_queue_s: float, max_lanes: int, lane_call_s: float) -> None:
        """`lane_call_s`: measured seconds that one lane of one model call costs in a full batch."""
        self._max_queue_s = max_queue_s
        self._max_lanes = max_lanes
        self._waiting: list[E] = []
        self._running = 0.0
        self._turns: dict[Hashable, int] = {}
        self._turn = 0
        self.lane_call_s = lane_call_s

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, entry: E) -> None:
        """Raises Requeue, as `check` does."""
        self.check(entry.calls_left, entry.weight)
        self._waiting.append(entry)

    def check(self, calls: int, weight: float) -> None:
        """Raises Requeue when one more row would have to wait, and would exceed the bound."""
        if self._running + sum(entry.weight for entry in self._waiting) + weight <= self._max_lanes:
            return  # it starts with the next step
        pending_s = self.pending_s()
        if self._waiting and pending_s + calls * weight * self.lane_call_s > self._max_queue_s:
            raise Requeue(
                f"{pending_s:.1f} s of work wait here in {len(self)} rows; "
                f"at most {self._max_queue_s:g} s may",
                pending_s=pending_s,
            )

    def pending_s(self) -> float:
        """Seconds of measured work that wait."""
        return self.lane_call_s * sum(entry.calls_left * entry.weight for entry in self._waiting)

    def observe(self, weight: float, step_s: float) -> None:
        """Learns the cost of a lane from a step of `weight` lanes, if rows waited meanwhile.

        Then the batch was full; in a batch of one a lane costs two or three times as much.
        """
        if self._waiting:
            self.lane_call_s += LEARNING_RATE * (step_s / weight - self.lane_call_s)

    def admit(self, *, running: float, now_s: float) -> list[E]:
        """Takes out the rows that start now, beside rows of the weight `running`.

        To be called before every step, also when nothing waits: what runs is learnt here.
        """

        def urgency(entry: E) -> float:
            return entry.calls_left - AGEING_CALLS_PER_S * (now_s - entry.submitted_s)

        admitted: list[E] = []
        for entry in sorted(self._waiting, key=urgency):
            # A row wider than the whole capacity runs alone. One that does not fit yet holds back
            # those behind it: else narrow rows would overtake a wide one for ever.
            if running and running + entry.weight > self._max_lanes:
                break
            running += entry.weight
            admitted.append(entry)
        self._running = running
        self._remove(admitted)
        return admitted

    def next_key(self, running: Iterable[Hashable]) -> Hashable | None:
        """The key whose turn it is among those that run; None when none does."""
        keys = set(running)
        self._turns = {key: turn for key, turn in self._turns.items() if key in keys}
        if not keys:
            return None
        key = min(keys, key=lambda key: self._turns.get(key, 0))
        self._turn += 1
        self._turns[key] = self._turn
        return key

    def drop_gone(self) -> list[E]:
        """Takes out the rows for which nobody waits any more."""
        gone = [entry for entry in self._waiting if entry.gone]
        self._remove(gone)
        return gone

    def take_all(self) -> list[E]:
        """Empties the queue."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def _remove(self, entries: list[E]) -> None:
        out = {id(entry) for entry in entries}
        self._waiting = [entry for entry in self._waiting if id(entry) not in out]
