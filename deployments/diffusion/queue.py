"""Which rows start next. Pure Python: it knows no torch, and time is passed in.

Rows wait here, where their cost is known, and the queue is bounded in seconds of measured work:
past `max_queue_s` a row is answered with `Requeue`, so that no backlog is pinned to one replica.

The most urgent row of any key starts, as long as its key has lanes free and the device has. The
first that does not fit holds back all behind it, of whatever key: else narrow rows would overtake a
wide one for ever. That costs little where only its own size is full, since limits differ only after
a lack of memory; and a row that passed would take the lanes it waits for. The last lanes are kept
from rows that are far less urgent than one that runs, since a full batch steps more slowly.

No row waits longer than, in seconds (encoding, decoding and loading come on top),

    (log2((1 + C + S) / 2) + 2 * PRIORITY_HALVINGS + DEADLINE_HALVINGS) * ageing_steps * F
        + E * (max(max_queue_s, L) + L)

where C is the longest run in model calls, S the dearest switch in calls, F the seconds of a full
step (the most that `Capacity.usual_step_s` was meanwhile), L the work in seconds of a full batch of
the longest runs (or of the widest row, if that is wider), and E how much dearer a lane is alone
than in a full batch. After the first term no later arrival is more urgent. What may still go first
waits or runs already: a push leaves at most max(max_queue_s, L) waiting, and at most L runs.
Something always runs, and no step is worse than a lane alone. Every lack of memory may put rows
back, and adds E * L. Seconds of work are those that it takes in the end: `max_queue_s` grows as
steps turn out dearer than when it was counted, and a step that stalls adds what it stalls.
"""

import heapq
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple

from deployments.diffusion.capacity import Capacity, HeldBack, Room
from deployments.diffusion.order import (
    AGEING_STEPS,
    SPREAD_HALVINGS,
    E,
    Turns,
    urgency,
    whole_rank,
)
from deployments.errors import Requeue


@dataclass(frozen=True, slots=True)
class Admission(Generic[E]):
    """Who starts now, most urgent first, and why the next one does not; None if nobody waits."""

    entries: list[E]
    held_back: HeldBack | None


class StepQueue(Generic[E]):
    """Waiting rows of all keys."""

    def __init__(
        self,
        capacity: Capacity,
        *,
        max_queue_s: float,
        ageing_steps: float = AGEING_STEPS,
        switch_calls: Callable[[Hashable], float] = lambda key: 0.0,
    ) -> None:
        """`switch_calls`: what loading all that a key needs would cost now, in model calls."""
        self._capacity = capacity
        self._max_queue_s = max_queue_s
        self._ageing_steps = ageing_steps
        self._switch_calls = switch_calls
        self._waiting: dict[E, _Settled] = {}
        self.weight = 0.0
        """Lanes that all who wait would take."""
        self._lane_calls: dict[Hashable, float] = {}
        self._running: Mapping[Hashable, float] = {}
        self._turns = Turns()
        # Where a step of waiting outweighs as much, the order is that of arrival.
        self._spread = SPREAD_HALVINGS if SPREAD_HALVINGS * ageing_steps > 1 else math.inf

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def ageing_per_s(self) -> float:
        """How many halvings a second of waiting outweighs, by what steps take of late."""
        return 1 / (self._ageing_steps * self._capacity.usual_step_s)

    def push(self, entry: E) -> None:
        """Raises Requeue, as `check` does."""
        self.check(entry.lane_calls_left, entry.weight, entry.key)
        self._waiting[entry] = self._settle(entry)
        self._count([entry])

    def check(self, lane_calls: float, weight: float, key: Hashable) -> None:
        """Raises Requeue when one more row would have to wait, and would exceed the bound."""
        if sum(self._running.values()) + self.weight + weight <= self._capacity.limit(key):
            return  # it starts with the next step, or when nobody is far more urgent
        pending_s = self.pending_s()
        work_s = lane_calls * self._capacity.lane_call_s(key)
        if self._waiting and pending_s + work_s > self._max_queue_s:
            raise Requeue(
                f"{pending_s:.1f} s of work wait here in {len(self)} rows; "
                f"at most {self._max_queue_s:g} s may",
                pending_s=pending_s,
            )

    def return_to_queue(self, entries: Iterable[E]) -> None:
        """Takes back rows that had started: no bound refuses them, and they win every tie."""
        parked = {entry: self._settle(entry) for entry in entries}
        self._waiting = parked | self._waiting
        self._count(parked)

    def pending_s(self) -> float:
        """Seconds of measured work that wait."""
        return sum(
            lane_calls * self._capacity.lane_call_s(key)
            for key, lane_calls in self._lane_calls.items()
        )

    def admit(self, running: Iterable[E], *, now_s: float) -> Admission[E]:
        """Takes out the rows that start now, beside those that run.

        To be called before every step, also when nothing waits: what runs is learnt here.
        """
        room, beside = Room(self._capacity), list(running)
        for entry in beside:
            room.take(entry.key, entry.weight)
        self._running = room.taken
        admitted: list[E] = []
        held_back: HeldBack | None = None
        passed_over: HeldBack | None = None
        for entry in self._by_urgency(now_s):
            held_back = room.refusal(entry.key, entry.weight)
            if held_back is not None:
                break
            if room.is_last(entry.key, entry.weight) and self._is_far_behind(
                entry, [*beside, *admitted]
            ):
                passed_over = "others are far more urgent"
                continue  # the lanes are for who comes next, if that is more urgent as a whole
            room.take(entry.key, entry.weight)
            admitted.append(entry)
        self._remove(admitted)
        return Admission(admitted, held_back or passed_over)

    def next_key(self, running: Mapping[Hashable, Sequence[E]], now_s: float) -> Hashable | None:
        """The key that steps next, of those with rows running; None when nothing runs."""
        ageing = self.ageing_per_s

        def most_urgent(key: Hashable) -> float:
            switch = 0.0 if key == self._turns.last else self._switch_calls(key)
            call_s = self._capacity.full_step_s(key)
            return min(
                urgency(entry, ageing, switch_calls=switch, call_s=call_s, now_s=now_s)
                for entry in running[key]
            )

        return self._turns.next({key: most_urgent(key) for key in running}, self._switch_calls)

    def position(self, entry: E, now_s: float) -> int:
        """Rows that go before this one; 0 once it has started."""
        return len(self._ahead(entry, now_s))

    def eta_s(self, entry: E, running_lane_calls: float, now_s: float) -> float:
        """Seconds until the row is done, if nothing more urgent arrives; also once it has started.

        `running_lane_calls` is the work left in the rows that run.
        """
        ahead = self._ahead(entry, now_s)
        own = entry.weight if entry in self._waiting else 0.0
        running = sum(self._running.values())
        lanes = running + sum(other.weight for other in ahead) + own
        limit = max(self._capacity.limit(entry.key), own)
        run_s = entry.calls_left * self._capacity.step_s(entry.key, min(lanes, limit))
        if lanes <= limit or not own:
            return run_s
        # Of what runs only as much must end as makes room. All of it made the ETA of the next row
        # 1.7 to 2.5 times too long; with this it is within 20 % (medians, simulated).
        ending = running_lane_calls * max(0.0, running + own - limit) / max(running, 1.0)
        wait_s = ending * self._capacity.lane_call_s(entry.key)
        for other in ahead:
            wait_s += other.lane_calls_left * self._capacity.lane_call_s(other.key)
        return wait_s + run_s

    def drop_gone(self) -> list[E]:
        """Takes out the rows for which nobody waits any more."""
        gone = [entry for entry in self._waiting if entry.gone]
        self._remove(gone)
        return gone

    def take_all(self) -> list[E]:
        """Empties the queue."""
        everyone = list(self._waiting)
        self._remove(everyone)
        return everyone

    # Below: what the above is made of

    def _order(self, now_s: float) -> list[tuple[float, int, E]]:
        """Every waiting row after its urgency and its place, which breaks ties."""
        keys = self._lane_calls
        switch = {key: 0.0 if key in self._running else self._switch_calls(key) for key in keys}
        call_s = {key: self._capacity.full_step_s(key) for key in keys}
        ageing = self.ageing_per_s
        return [
            (
                urgency(
                    entry,
                    ageing,
                    switch_calls=switch[settled.key],
                    call_s=call_s[settled.key],
                    now_s=now_s,
                ),
                place,
                entry,
            )
            for place, (entry, settled) in enumerate(self._waiting.items())
        ]

    def _by_urgency(self, now_s: float) -> Iterator[E]:
        """One after the other: most steps start no row, and a thousand need not be sorted."""
        heap = self._order(now_s)
        heapq.heapify(heap)
        while heap:
            yield heapq.heappop(heap)[2]

    def _is_far_behind(self, entry: E, others: Iterable[E]) -> bool:
        ageing = self.ageing_per_s
        worth = whole_rank(entry, ageing) - self._spread
        return entry.deadline_s is None and any(
            whole_rank(other, ageing) < worth for other in others
        )

    def _ahead(self, entry: E, now_s: float) -> list[E]:
        if entry not in self._waiting:
            return []
        order = self._order(now_s)
        own = next(item[:2] for item in order if item[2] is entry)
        return [item[2] for item in order if item[:2] < own]

    def _settle(self, entry: E) -> "_Settled":
        return _Settled(entry.weight, entry.key, entry.lane_calls_left)

    def _count(self, entries: Iterable[E]) -> None:
        for entry in entries:
            weight, key, lane_calls = self._waiting[entry]
            self.weight += weight
            self._lane_calls[key] = self._lane_calls.get(key, 0.0) + lane_calls

    def _remove(self, entries: Sequence[E]) -> None:
        if not entries:
            return
        for entry in entries:
            del self._waiting[entry]
        self.weight, self._lane_calls = 0.0, {}
        self._count(self._waiting)  # anew: differences of floats would not come back to 0


class _Settled(NamedTuple):
    """What does not change while a row waits, asked once."""

    weight: float
    key: Hashable
    lane_calls: float
