"""The jobs of every caller: taken, run, watched, cancelled and, some time later, forgotten.

It runs them itself, so that a job outlives the ingress replica that took it. Knows no Ray: how rows
are run is handed to it.
"""

import asyncio
import contextvars
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import aclosing
from typing import Protocol

from deployments.errors import EngineFailed, Requeue, StepwiseError, UnknownJob
from deployments.jobs.journal import Journal
from deployments.jobs.quotas import Quotas
from deployments.jobs.record import Job
from deployments.jobs.settings import JobsSettings
from deployments.meter import UNREAD, Meter
from deployments.metrics import JOBS, JOBS_ENDED
from deployments.requests import GenerationRequest, ImageResult, JobState, JobView, Progress

logger = logging.getLogger(__name__)

FULL_RETRY_S = 10.0
"""Retry-After when no job is over: most take longer, few much longer."""


class Watch(Protocol):
    """Runs a request."""

    def __call__(
        self, request: GenerationRequest, *, previews: int, patience_s: float
    ) -> AsyncGenerator[Progress | ImageResult]:
        """What the rows tell, each one's picture last; closing it cancels them.

        Raises Requeue once nobody has had room for a row for `patience_s`.
        """


class Ledger:
    """Jobs by owner and id. All on one event loop.

    The owner is whoever may ask for a job, mostly the caller: quotas count the request's own.
    """

    def __init__(
        self,
        watch: Watch,
        settings: JobsSettings,
        *,
        quotas: Quotas | None = None,
        clock: Callable[[], float] = time.time,
        meter: Meter = UNREAD,
    ) -> None:
        """Goes on from the settings' journal, if there is one; blocks while it is read."""
        self._watch, self._settings, self._clock = watch, settings, clock
        self._meter = meter
        self._quotas = quotas or Quotas()
        self._journal = Journal(settings.journal) if settings.journal else None
        self._jobs: dict[tuple[str, str], Job] = {}
        """In the order of their start."""
        for job in self._journal.read() if self._journal else ():
            self._go_on(job)

    async def start(
        self, owner: str, job_id: str, request: GenerationRequest, *, previews: int
    ) -> JobView:
        """Takes a job and answers at once; the same id again gives the job that it named first.

        Raises Requeue when too much is kept of jobs that are not over, and TooManyRows when the
        caller runs as much as it may.
        """
        self._forget()
        known = await self._find(owner, job_id)
        if known is not None:
            if known.writing is not None:  # by a client that left, and asks again
                await asyncio.shield(known.writing)
            return known.view()
        job = Job(owner, job_id, request, previews, self._clock())
        self._check_room(job)
        self._quotas.begin(request.caller, _lease(job), len(request.rows), ttl_s=math.inf)
        self._make_room()
        self._jobs[job.key] = job
        self._begin(job)
        view = job.view()
        await self._written(job)
        return view

    async def get(self, owner: str, job_id: str) -> JobView:
        """The job now. Raises UnknownJob, as all below do for a job that is not this owner's."""
        return (await self._job(owner, job_id)).view()

    async def results(self, owner: str, job_id: str, *, forget: bool = False) -> list[ImageResult]:
        """The pictures made so far, in the order of the rows; `forget` when nobody asks again,
        which ends no job."""
        job = await self._job(owner, job_id)
        if forget and job.over:
            self._drop(job)
        return [job.results[row.id] for row in job.request.rows if row.id in job.results]

    async def events(self, owner: str, job_id: str) -> AsyncGenerator[JobView]:
        """The job now, then at every change, until it is over."""
        job = await self._job(owner, job_id)
        while True:
            change, over = job.next_change, job.over
            yield job.view()
            if over:
                return
            await change.wait()

    async def cancel(self, owner: str, job_id: str) -> JobView:
        """Frees the lanes of a job; returns when it is over."""
        job = await self._job(owner, job_id)
        if job.task is not None and not job.over:
            job.task.cancel()
            await asyncio.wait([job.task])
            if not job.over:
                # It was cancelled before its first step: nothing in `_run` heard of it.
                self._end(job, "cancelled")
            await self._written(job)
        return job.view()

    async def running(self, owner: str) -> list[JobView]:
        """The owner's jobs that are not over, oldest first."""
        return [job.view() for job in self._jobs.values() if job.owner == owner and not job.over]

    def tell(self) -> None:
        """How many jobs wait and run, to the meter."""
        states: Counter[str] = Counter(job.state for job in self._jobs.values())
        for state in JOBS.labels["state"]:
            self._meter.set(JOBS, states[state], state=state)

    async def take_lease(self, caller: str, lease_id: str, rows: int) -> None:
        """Counts rows that run outside of jobs. Raises TooManyRows."""
        self._quotas.begin(caller, lease_id, rows)

    async def renew_lease(self, caller: str, lease_id: str) -> None:
        """Keeps a lease for another LEASE_TTL_S."""
        self._quotas.renew(caller, lease_id)

    async def end_lease(self, caller: str, lease_id: str) -> None:
        """Its rows run no more."""
        self._quotas.end(caller, lease_id)

    async def _job(self, owner: str, job_id: str) -> Job:
        job = await self._find(owner, job_id)
        if job is None or self._is_old(job):
            raise UnknownJob(
                f"job {job_id!r} is not known: it was never started, belongs to another key, or "
                f"was over for more than {self._settings.keep_s:g} s",
                param="id",
            )
        return job

    async def _find(self, owner: str, job_id: str) -> Job | None:
        """Also one that the ledger before this one took after this one had read the journal."""
        if (owner, job_id) not in self._jobs and self._journal is not None:
            try:
                found = await asyncio.wrap_future(self._journal.find(owner, job_id))
            except Exception:
                logger.exception("the journal cannot be asked for job %s", job_id)
            else:
                if found is not None and found.key not in self._jobs:
                    self._go_on(found)
        return self._jobs.get((owner, job_id))

    def _go_on(self, job: Job) -> None:
        self._jobs[job.key] = job
        if not job.over:
            logger.info("job %s goes on", job.id)
            self._begin(job)

    def _begin(self, job: Job) -> None:
        # A context of its own: else its log lines would carry the id of this request for ever.
        job.task = asyncio.get_running_loop().create_task(
            self._run(job), context=contextvars.Context()
        )

    async def _run(self, job: Job) -> None:
        try:
            watched = self._watch(
                job.request, previews=job.previews, patience_s=self._settings.patience_s
            )
            async with aclosing(watched) as told:
                async for each in told:
                    job.hear(each)
        except asyncio.CancelledError:
            self._end(job, "cancelled")
        except StepwiseError as error:
            self._end(job, "failed", error)
        except Exception:
            logger.exception("job %s failed", job.id)
            unexpected = EngineFailed(f"job {job.id} met an unexpected error, which is logged")
            self._end(job, "failed", unexpected)
        else:
            self._end(job, "succeeded")
        logger.info("job %s %s", job.id, job.state)
        # Not what was cancelled: by its caller, `cancel` writes it down; by the end of this ledger,
        # the next one goes on.
        if job.state != "cancelled":
            await self._written(job)
        self._forget()

    def _end(self, job: Job, state: JobState, error: StepwiseError | None = None) -> None:
        # First: whoever hears that the job is over may start the next one at once.
        self._quotas.end(job.request.caller, _lease(job))
        job.end(state, self._clock(), error)
        self._meter.count(JOBS_ENDED, state=state)

    async def _written(self, job: Job) -> None:
        """Once the journal, if there is one, has the job as it is now.

        A journal that takes nothing is no reason to end jobs: they go on, and are known to this
        ledger alone.
        """
        if self._journal is None:
            return
        job.writing = asyncio.ensure_future(_logged(self._journal.write(job), job))
        await asyncio.shield(job.writing)  # whoever waits may be cancelled

    def _drop(self, job: Job) -> None:
        del self._jobs[job.key]
        if self._journal is not None:
            self._journal.strike(job)

    def _check_room(self, new: Job) -> None:
        """Raises Requeue when the jobs that are not over leave none."""
        pending = [job for job in self._jobs.values() if not job.over]
        if len(pending) >= self._settings.max_jobs:
            raise Requeue(
                f"{len(pending)} jobs wait or run; no more are kept", pending_s=FULL_RETRY_S
            )
        input_mb = sum(job.input_bytes for job in [*pending, new]) / 1e6
        if pending and input_mb > self._settings.max_input_mb:
            raise Requeue(
                f"input images of {input_mb:.0f} MB would wait or run; at most "
                f"{self._settings.max_input_mb:g} MB may",
                pending_s=FULL_RETRY_S,
            )

    def _make_room(self) -> None:
        """For one more; what was over first goes first."""
        if len(self._jobs) >= self._settings.max_jobs:
            self._drop(self._over()[0])

    def _forget(self) -> None:
        """Jobs that were over for too long, and the first over whose pictures take too much."""
        kept_bytes = sum(job.kept_bytes for job in self._jobs.values() if job.over)
        for job in self._over():
            if self._is_old(job) or kept_bytes > self._settings.max_kept_mb * 1e6:
                kept_bytes -= job.kept_bytes
                self._drop(job)

    def _is_old(self, job: Job) -> bool:
        return job.ended is not None and job.ended < self._clock() - self._settings.keep_s

    def _over(self) -> list[Job]:
        """Jobs that are over, in the order in which they ended."""
        ended = [(job.ended, job) for job in self._jobs.values() if job.ended is not None]
        return [job for _, job in sorted(ended, key=lambda each: each[0])]


def _lease(job: Job) -> str:
    return f"job {job.owner} {job.id}"


async def _logged(write: Future[None], job: Job) -> None:
    try:
        await asyncio.wrap_future(write)
    except Exception:
        logger.exception("job %s cannot be written to the journal", job.id)
