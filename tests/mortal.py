"""Deployments for test_successors.py: in a module of their own, which a replica can import."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.ingress.deployment import _Jobs
from deployments.jobs.record import Job
from deployments.requests import JobState, JobView, ModelCard
from tests.ingress_backend import CARD
from tests.moody import REQUEST


class MortalLedger:
    """Dies in the midst of the first thing that it is asked; its successor does not."""

    def __init__(self, lives: Path) -> None:
        with lives.open("a") as file:
            file.write("x")
        self.first = len(lives.read_text()) == 1

    async def events(self, owner: str, job_id: str) -> AsyncGenerator[JobView]:
        job = Job(owner, job_id, REQUEST, 0, 0.0)
        yield job.view()
        if self.first:
            os._exit(1)
        job.end("cancelled", 1.0, None)
        yield job.view()

    async def take_lease(self, caller: str, lease_id: str, rows: int) -> None:
        if self.first:
            os._exit(1)


class AsksLedger:
    """The ingress' way to a ledger."""

    def __init__(self, ledger: DeploymentHandle[Any]) -> None:
        self.jobs = _Jobs(ledger)

    async def states(self) -> list[JobState]:
        return [view.state async for view in self.jobs.events("me", "a")]

    async def lease(self) -> None:
        await self.jobs.take_lease("me", "a lease", 1)


class Late:
    """A model that is asked for its card so many times before it gives it."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals

    def card(self) -> ModelCard:
        self.refusals -= 1
        if self.refusals >= 0:
            raise RuntimeError("still loading")
        return CARD
