"""Which waiting jobs a baseline runs next. Pure functions: they know no model and no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from .systems import Picture
from .trace import CallKey, Job, call_key, lane_steps


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A job in a baseline's queue."""

    job: Job
    arrived_s: float
    future: Future[Picture]


Policy = Callable[[Sequence[Waiting], int], list[Waiting]]
"""What waits, in the order of arrival, and how many rows a call may have -> what runs now."""


def one_at_a_time(waiting: Sequence[Waiting], most_rows: int) -> list[Waiting]:
    """The oldest job alone: an `async def` endpoint that calls the pipeline."""
    return list(waiting[:1])


def oldest_key(waiting: Sequence[Waiting], most_rows: int) -> list[Waiting]:
    """A first-come queue for each key; the one whose head waits longest."""
    return _of_key(waiting, call_key(waiting[0].job), most_rows)


def shortest_key(waiting: Sequence[Waiting], most_rows: int) -> list[Waiting]:
    """The same queues; the one with the shortest jobs, and of equals the one that waits longest."""
    shortest = min(waiting, key=lambda one: lane_steps(one.job.row))
    return _of_key(waiting, call_key(shortest.job), most_rows)


def arrived_together(wait_s: float) -> Policy:
    """Ray's `@serve.batch`: a batch is whatever arrives within `wait_s` of its first job.

    Ray closes a batch when its timer ends or it is full, also while another one runs, and closed
    batches wait in line. So who is in a batch depends on the arrivals alone.
    """

    def head(waiting: Sequence[Waiting], most_rows: int) -> list[Waiting]:
        closes_s = waiting[0].arrived_s + wait_s
        return [one for one in waiting[:most_rows] if one.arrived_s <= closes_s]

    return head


def by_key(batch: Sequence[Waiting]) -> list[list[Waiting]]:
    """The batch in groups that can share a call, in the order of their first jobs."""
    groups: dict[CallKey, list[Waiting]] = {}
    for one in batch:
        groups.setdefault(call_key(one.job), []).append(one)
    return list(groups.values())


def _of_key(waiting: Sequence[Waiting], key: CallKey, most_rows: int) -> list[Waiting]:
    return [one for one in waiting if call_key(one.job) == key][:most_rows]
