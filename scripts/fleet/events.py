"""What happens to a fleet under load, and what its clients notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from fleet.cluster import MODEL, WORKERS, Fleet, Worker, logged, replicas_on, wait_until
from fleet.load import CASES, Answer, Case, Job, Load, Pixels

CLIENTS = 9
CALM, AFTERWARDS = 2 * CLIENTS, 2 * CLIENTS
"""Answers before and after an event: two from each client, on average."""

JOB = next(case for case in reversed(CASES) if case.kind == "text")
"""A long one."""

Right = Mapping[Case, Pixels]
REPEATED = "and is repeated"
"""What the log says of a row that lost its replica."""


def node_killed(fleet: Fleet, right: Right) -> dict[str, Any]:
    """A node with a replica of the model and of imaging dies; clients are at the other nodes."""
    victim = _victim(fleet)
    others = [port for port in _ports(fleet) if port != victim.port]
    figures = _under(others, right, lambda: fleet.lose(victim))
    _restore(fleet)
    return figures


def ingress_node_killed(fleet: Fleet, right: Right) -> dict[str, Any]:
    """A node dies at which clients are; they ask again at another one."""
    victim = next(worker for worker in fleet.workers if worker.port in _ports(fleet))
    others = [port for port in _ports(fleet) if port != victim.port]
    figures = _under([*others, victim.port], right, lambda: fleet.lose(victim), tries=2)
    _restore(fleet)
    return figures


def rolling_update(fleet: Fleet, right: Right) -> dict[str, Any]:
    """Every replica of the model is replaced by one of another config, and the ingress too."""
    return _under(_ports(fleet), right, fleet.update)


def downscale(fleet: Fleet, right: Right) -> dict[str, Any]:
    """From three replicas of the model and of imaging to one of each."""

    def shrink() -> None:
        fleet.deploy(replicas=1)
        fleet.wait_until_whole(1)

    figures = _under(_ports(fleet), right, shrink)
    fleet.deploy()
    fleet.wait_until_whole()
    return figures


def controller_killed(fleet: Fleet, right: Right) -> dict[str, Any]:
    """Serve's controller dies and starts again on the head."""

    def restart() -> None:
        old = fleet.controller()
        assert old is not None
        old.kill()
        old.wait()
        wait_until(lambda: fleet.controller() is not None)
        fleet.update()  # it still does what it is told

    return _under(_ports(fleet), right, restart)


EVENTS: Mapping[str, Callable[[Fleet, Right], dict[str, Any]]] = {
    "rolling_update": rolling_update,
    "downscale": downscale,
    "controller_killed": controller_killed,
    "node_killed": node_killed,
    "ingress_node_killed": ingress_node_killed,
}


def _ports(fleet: Fleet) -> list[int]:
    """Where clients may ask: a node without an ingress replica has no proxy."""
    return [worker.port for worker in fleet.workers if "ingress" in replicas_on(worker)]


def _victim(fleet: Fleet) -> Worker:
    """A node with a replica of the model and of imaging."""
    return next(w for w in fleet.workers if {MODEL, "imaging"} <= {*replicas_on(w)})


def _restore(fleet: Fleet) -> None:
    """A new node, as an autoscaler would bring, and replicas on it."""
    fleet.add_worker()
    fleet.wait_until_whole(WORKERS)


def _under(
    ports: Sequence[int], right: Right, event: Callable[[], None], *, tries: int = 1
) -> dict[str, Any]:
    """The first port is one that stays."""
    repeated = logged(REPEATED)
    with Load(ports, CLIENTS, right, tries=tries) as load:
        load.wait_for_more(CALM)
        job = Job(ports[0], f"job-{time.monotonic_ns()}", JOB)
        begun_s = time.monotonic()
        event()
        over_s = time.monotonic()
        load.wait_for_more(AFTERWARDS)
    of_job = job.problem(ports[0], right[JOB])
    calm = [answer for answer in load.answers if answer.answered_s < begun_s]
    after = [answer for answer in load.answers if answer.answered_s >= begun_s]
    return {
        "event_s": over_s - begun_s,
        "repeated_rows": logged(REPEATED) - repeated,
        "second_tries": sum(answer.tries > 1 for answer in after),
        "before": _noticed(calm),
        "during_and_after": _noticed(after),
        "problems": sorted({of_job, *(answer.problem for answer in load.answers)} - {""}),
    }


def _noticed(answers: Sequence[Answer]) -> dict[str, float]:
    took = sorted(answer.took_s for answer in answers)
    times = sorted(answer.answered_s for answer in answers)
    return {
        "requests": len(answers),
        "wrong": sum(bool(answer.problem) for answer in answers),
        "p50_s": took[len(took) // 2],
        "longest_s": took[-1],
        "longest_silence_s": max(later - sooner for sooner, later in pairwise(times)),
    }
