"""Open and closed loops: jobs go into a system, and when they come out is noted."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from .spans import covered_s
from .systems import Picture, System
from .trace import Job

CHECKED = 16
"""The first jobs of a trace, whose pictures are kept to be compared."""


@dataclass(slots=True, eq=False)
class Visit:
    """One job's way through the system; times on `time.perf_counter`."""

    job: Job
    arrived_s: float
    future: Future[Picture]
    left_s: float | None = None


@dataclass(slots=True)
class Outcome:
    """What a loop saw."""

    wall_s: float
    """From the first arrival to the last picture, or to the cut."""
    cut_off: bool
    latencies: list[tuple[int, float]] = field(default_factory=list)
    """(steps, seconds); of jobs cut off, the seconds until the cut."""
    finished: int = 0
    failed: int = 0
    pictures: list[tuple[Job, bytes]] = field(default_factory=list)
    """PNGs of the first jobs."""
    occupied_s: float = 0.0
    """Time with at least one job in the system."""


def open_loop(system: System, jobs: Sequence[Job], per_s: float, *, most_waiting: int) -> Outcome:
    """Jobs arrive when the trace says so, whether or not the system keeps up.

    Once more than `most_waiting` jobs are in the system, it is cut off.
    """
    visitors = _Visitors(system)
    begun_s = time.perf_counter()
    for job in jobs:
        due_s = begun_s + job.arrival / per_s
        time.sleep(max(0.0, due_s - time.perf_counter()))
        visitors.send(job, due_s)
        if visitors.inside > most_waiting:
            return visitors.cut(begun_s)
    visitors.wait_for(len(jobs))
    return visitors.outcome(begun_s)


def closed_loop(system: System, jobs: Sequence[Job], *, in_flight: int) -> Outcome:
    """So many jobs are always in the system, until no more are left and it runs empty."""
    visitors = _Visitors(system)
    begun_s = time.perf_counter()
    for number, job in enumerate(jobs):
        if number >= in_flight:
            visitors.wait_for(1)
        visitors.send(job, time.perf_counter())
    visitors.wait_for(min(in_flight, len(jobs)))
    return visitors.outcome(begun_s)


class _Visitors:
    """Everyone who was sent into a system."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._visits: list[Visit] = []
        self._left = threading.Semaphore(0)

    @property
    def inside(self) -> int:
        return sum(visit.left_s is None for visit in self._visits)

    def send(self, job: Job, due_s: float) -> None:
        visit = Visit(job, due_s, self._system.submit(job))
        self._visits.append(visit)

        def left(_: Future[Picture]) -> None:
            visit.left_s = time.perf_counter()
            self._left.release()

        visit.future.add_done_callback(left)

    def wait_for(self, count: int) -> None:
        """Until so many more have left."""
        for _ in range(count):
            self._left.acquire()

    def cut(self, begun_s: float) -> Outcome:
        """Ends the run now; what runs in the system is waited for, lest it disturb the next run."""
        outcome = self._outcome(begun_s, time.perf_counter(), cut_off=True)
        for visit in self._visits:
            visit.future.cancel()
        self.wait_for(len(self._visits))
        outcome.occupied_s = self._occupied_s()
        return outcome

    def outcome(self, begun_s: float) -> Outcome:
        """After everyone has left."""
        outcome = self._outcome(begun_s, max(self._departures_s()), cut_off=False)
        outcome.occupied_s = self._occupied_s()
        return outcome

    def _outcome(self, begun_s: float, ended_s: float, *, cut_off: bool) -> Outcome:
        outcome = Outcome(ended_s - begun_s, cut_off)
        for visit in self._visits:
            _note(visit, ended_s, outcome)
        return outcome

    def _occupied_s(self) -> float:
        arrivals_s = [visit.arrived_s for visit in self._visits]
        return covered_s(zip(arrivals_s, self._departures_s(), strict=True))

    def _departures_s(self) -> list[float]:
        return [visit.left_s for visit in self._visits if visit.left_s is not None]


def _note(visit: Visit, ended_s: float, outcome: Outcome) -> None:
    if visit.left_s is not None and visit.future.exception() is not None:
        outcome.failed += 1
        return
    latency_s = (visit.left_s or ended_s) - visit.arrived_s
    outcome.latencies.append((visit.job.row.num_inference_steps, latency_s))
    if visit.left_s is not None:
        outcome.finished += 1
        if visit.job.number < CHECKED:
            outcome.pictures.append((visit.job, visit.future.result().content))
