"""Which runs make up a benchmark, and in which order: what has a bar comes first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .records import Kind, Run
from .systems import WITH_BARS

BAR_LOAD = 0.8
"""Share of the capacity at which the bars are."""

QUICK_S = 480.0
"""What a quick benchmark has for its open loops, in seconds."""
LEAST_JOBS, QUICK_JOBS = 8, 160
QUICK_ELSEWHERE = ("stepwise", "static_per_key")
"""Systems that a quick benchmark runs at the other loads too."""

ONE_BY_ONE = ("sequential", "threads", "serve_batch_naive")
"""Systems that are no faster than a bare loop when jobs come one by one."""


class Choice(NamedTuple):
    """What was asked for."""

    systems: Sequence[str]
    loads: Sequence[float]
    seeds: Sequence[int]
    jobs: int
    """Arrivals of a run that a bar depends on; others have a third of them, in a quick benchmark
    half."""
    quick: bool


def load_runs(choice: Choice, capacity_per_s: float) -> list[Run]:
    """The open loops at shares of the capacity, in images per second.

    What a bar depends on is run with every seed, the rest with the first.
    """
    runs = []
    for load in sorted(choice.loads, key=lambda load: load != BAR_LOAD):
        for seed in choice.seeds:
            runs += [
                open_run("load", system, load, capacity_per_s, seed, _jobs(choice, system, load))
                for system in choice.systems
                if not choice.quick or load == BAR_LOAD or system in QUICK_ELSEWHERE
                if seed == choice.seeds[0] or _has_bar(system, load)
            ]
    return sorted(runs, key=lambda run: not _has_bar(run.system, run.load))


def open_run(
    kind: Kind, system: str, load: float, capacity_per_s: float, seed: int, jobs: int
) -> Run:
    """An open loop at a share of a capacity in images per second."""
    per_s = round(load * capacity_per_s, 6)
    return Run(kind=kind, system=system, load=load, per_s=per_s, seed=seed, jobs=jobs)


def with_fitting_jobs(choice: Choice, capacity_per_s: float, loop_per_s: float) -> Choice:
    """The quick choice, with as many jobs as its time allows on this machine."""
    thousand = load_runs(choice._replace(jobs=1000), capacity_per_s)
    taken_s = sum(
        run.jobs / min(run.per_s, loop_per_s if run.system in ONE_BY_ONE else capacity_per_s)
        for run in thousand
    )
    fitting = int(1000 * QUICK_S / taken_s) // 4 * 4
    return choice._replace(jobs=min(max(fitting, LEAST_JOBS), QUICK_JOBS))


def jobs_without_bar(choice: Choice) -> int:
    """Arrivals of a run that no bar depends on."""
    return choice.jobs // (2 if choice.quick else 3)


def _jobs(choice: Choice, system: str, load: float) -> int:
    return choice.jobs if _has_bar(system, load) else jobs_without_bar(choice)


def _has_bar(system: str, load: float) -> bool:
    return system in WITH_BARS and load == BAR_LOAD
