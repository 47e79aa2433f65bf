"""The jobs of every caller: taken, run, watched, cancelled and, some time later, forgotten.

It runs them itself, so that a job outlives the ingress replica that took it. Knows no Ray: how rows
are run is handed to it.
"""

import asyncio
import contextvars
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from deployments.errors import EngineFailed, Requeue, StepwiseError, UnknownJob
from deployments.jobs.quotas import Quotas
from deployments.jobs.record import Job
from deployments.jobs.settings import JobsSettings
from deployments.requests import GenerationRequest, ImageResult, JobView, Progress

logger = logging.getLogger(__name__)

FULL_RETRY_S = 10.0
"""Retry-After when no job is over: most take longer, few much longer."""


class Watch(Protocol):
    """Runs a request."""

    def __call__(
        self, request: GenerationRequest, *, previews: int
    ) -> AsyncGenerator[Progress | ImageResult]:
        """What the rows tell, each one's picture last; closing it cancels them."""


class Ledger:
    """Jobs by caller and id. All on one event loop."""

    def __init__(
        self,
        watch: Watch,
        settings: JobsSettings,
        *,
        quotas: Quotas | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._watch, self._settings, self._clock = watch, settings, clock
        self._quotas = quotas or Quotas()
        self._jobs: dict[tuple[str, str], Job] = {}
        """In the order of their start."""

    async def start(
        self, caller: str, job_id: str, request: GenerationRequest, *, previews: int
    ) -> JobView:
        """Takes a job and answers at once; the same id again gives the job that it named first.

        Raises Requeue when `max_jobs` are kept and none of them is over, and TooManyRows when the
        caller runs as much as it may.
        """
        self._forget()
        if (caller, job_id) in self._jobs:
            return self._job(caller, job_id).view()
        self._make_room()
        lease_id = f"job {job_id}"
        self._quotas.begin(caller, lease_id, len(request.rows), ttl_s=math.inf)
        job = Job(id=job_id, request=request, created=self._clock())
        self._jobs[caller, job_id] = job
        # A context of its own: else its log lines would carry the id of this request for ever.
        running = self._run(job, previews)
        job.task = asyncio.get_running_loop().create_task(running, context=contextvars.Context())
        job.task.add_done_callback(lambda _: self._quotas.end(caller, lease_id))
        return job.view()

    async def get(self, caller: str, job_id: str) -> JobView:
        """The job now. Raises UnknownJob, as all below do for a job that is not this caller's."""
        return self._job(caller, job_id).view()

    async def results(self, caller: str, job_id: str) -> list[ImageResult]:
        """The pictures made so far, in the order of the rows."""
        job = self._job(caller, job_id)
        return [job.results[row.id] for row in job.request.rows if row.id in job.results]

    async def events(self, caller: str, job_id: str) -> AsyncGenerator[JobView]:
        """The job now, then at every change, until it is over."""
        job = self._job(caller, job_id)
        while True:
            change, over = job.next_change, job.over
            yield job.view()
            if over:
                return
            await change.wait()

    async def cancel(self, caller: str, job_id: str) -> JobView:
        """Frees the lanes of a job; returns when it is over."""
        job = self._job(caller, job_id)
        if job.task is not None and not job.over:
            job.task.cancel()
            await asyncio.wait([job.task])
            if not job.over:
                # It was cancelled before its first step: nothing in `_run` heard of it.
                job.end("cancelled", self._clock())
        return job.view()

    async def running(self, caller: str) -> list[JobView]:
        """The caller's jobs that are not over, oldest first."""
        return [
            job.view() for (owner, _), job in self._jobs.items() if owner == caller and not job.over
        ]

    async def take_lease(self, caller: str, lease_id: str, rows: int) -> None:
        """Counts rows that run outside of jobs. Raises TooManyRows."""
        self._quotas.begin(caller, lease_id, rows)

    async def renew_lease(self, caller: str, lease_id: str) -> None:
        """Keeps a lease for another LEASE_TTL_S."""
        self._quotas.renew(caller, lease_id)

    async def end_lease(self, caller: str, lease_id: str) -> None:
        """Its rows run no more."""
        self._quotas.end(caller, lease_id)

    def _job(self, caller: str, job_id: str) -> Job:
        self._forget()
        if (caller, job_id) not in self._jobs:
            raise UnknownJob(
                f"job {job_id!r} is not known: it was never started, belongs to another key, or "
                f"was over for more than {self._settings.keep_s:g} s",
                param="id",
            )
        return self._jobs[caller, job_id]

    async def _run(self, job: Job, previews: int) -> None:
        try:
            async with aclosing(self._watch(job.request, previews=previews)) as told:
                async for each in told:
                    job.hear(each)
        except asyncio.CancelledError:
            job.end("cancelled", self._clock())
        except StepwiseError as error:
            job.end("failed", self._clock(), error)
        except Exception:
            logger.exception("job %s failed", job.id)
            unexpected = EngineFailed(f"job {job.id} met an unexpected error, which is logged")
            job.end("failed", self._clock(), unexpected)
        else:
            job.end("succeeded", self._clock())
        logger.info("job %s %s", job.id, job.state)

    def _make_room(self) -> None:
        """For one more; what is over goes first."""
        if len(self._jobs) < self._settings.max_jobs:
            return
        over = next((key for key, job in self._jobs.items() if job.over), None)
        if over is None:
            raise Requeue(
                f"{len(self._jobs)} jobs wait or run; no more are kept", pending_s=FULL_RETRY_S
            )
        del self._jobs[over]

    def _forget(self) -> None:
        """Jobs that were over for too long, and the oldest whose pictures take too much."""
        latest = self._clock() - self._settings.keep_s
        kept_bytes = sum(job.kept_bytes for job in self._jobs.values() if job.over)
        for key, job in list(self._jobs.items()):
            if job.ended is None:
                continue
            if job.ended < latest or kept_bytes > self._settings.max_kept_mb * 1e6:
                kept_bytes -= job.kept_bytes
                del self._jobs[key]
