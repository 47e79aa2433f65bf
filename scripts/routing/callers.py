"""Who asks: replicas that send rows to the model as those of the ingress do, with a router each.

In a module of its own, which they import.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from ray.serve.handle import DeploymentHandle

from deployments.dispatch import Dispatcher
from deployments.errors import StepwiseError
from deployments.requests import GenerationRequest, Row

from .trace import Job


class Visit(msgspec.Struct, frozen=True):
    """What became of a row."""

    steps: int
    latency_s: float | None
    """From when it was due to its picture; None if it failed."""


class Caller:
    """One of several."""

    def __init__(self, model: DeploymentHandle[Any]) -> None:
        self._dispatcher = Dispatcher({"bench": model}, model)

    async def replay(self, jobs: Sequence[Job], per_s: float, begin: float) -> list[Visit]:
        """The rows as they are due; `begin` is in Unix seconds, which all callers share."""
        return await asyncio.gather(
            *(self._visit(job.row, begin + job.arrival / per_s) for job in jobs)
        )

    async def _visit(self, row: Row, due: float) -> Visit:
        await asyncio.sleep(due - time.time())
        try:
            await self._dispatcher.generate(GenerationRequest(rows=(row,)))
        except StepwiseError:
            return Visit(row.num_inference_steps, None)
        return Visit(row.num_inference_steps, time.time() - due)


class Callers:
    """All of them, to be asked by who measures."""

    def __init__(self, *callers: DeploymentHandle[Any]) -> None:
        self._callers = callers

    async def replay(self, jobs: Sequence[Job], per_s: float, begin: float) -> list[Visit]:
        """Every job by its caller."""
        each = [
            caller.replay.remote([job for job in jobs if job.caller == number], per_s, begin)
            for number, caller in enumerate(self._callers)
        ]
        return [visit for visits in await asyncio.gather(*each) for visit in visits]
