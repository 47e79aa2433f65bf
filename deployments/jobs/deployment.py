"""The ledger on Ray Serve: one replica, whose memory is what it knows."""

from collections.abc import AsyncGenerator
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.dispatch import Dispatcher
from deployments.jobs.ledger import Ledger
from deployments.jobs.quotas import Quotas
from deployments.jobs.settings import JobsSettings
from deployments.logs import log_through_serve
from deployments.requests import GenerationRequest, ImageResult, JobView


class JobsLedger:
    """`Ledger` over handles to the models and the imaging replicas."""

    def __init__(
        self,
        settings: JobsSettings,
        models: dict[str, DeploymentHandle[Any]],
        imaging: DeploymentHandle[Any],
        quotas: Quotas,
    ) -> None:
        log_through_serve()
        self._ledger = Ledger(Dispatcher(models, imaging).watch, settings, quotas=quotas)

    async def start(
        self, caller: str, job_id: str, request: GenerationRequest, *, previews: int
    ) -> JobView:
        """Takes a job and answers at once."""
        return await self._ledger.start(caller, job_id, request, previews=previews)

    async def get(self, caller: str, job_id: str) -> JobView:
        """The job now."""
        return await self._ledger.get(caller, job_id)

    async def results(self, caller: str, job_id: str, *, forget: bool = False) -> list[ImageResult]:
        """The pictures made so far."""
        return await self._ledger.results(caller, job_id, forget=forget)

    async def events(self, caller: str, job_id: str) -> AsyncGenerator[JobView]:
        """The job now, then at every change. To be called as a stream."""
        async for view in self._ledger.events(caller, job_id):
            yield view

    async def cancel(self, caller: str, job_id: str) -> JobView:
        """Frees the lanes of a job."""
        return await self._ledger.cancel(caller, job_id)

    async def running(self, caller: str) -> list[JobView]:
        """The caller's jobs that are not over."""
        return await self._ledger.running(caller)

    async def take_lease(self, caller: str, lease_id: str, rows: int) -> None:
        """Counts rows that run outside of jobs."""
        await self._ledger.take_lease(caller, lease_id, rows)

    async def renew_lease(self, caller: str, lease_id: str) -> None:
        """Keeps a lease."""
        await self._ledger.renew_lease(caller, lease_id)

    async def end_lease(self, caller: str, lease_id: str) -> None:
        """Its rows run no more."""
        await self._ledger.end_lease(caller, lease_id)
