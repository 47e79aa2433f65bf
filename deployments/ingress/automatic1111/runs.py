"""Makes pictures as a job of the ledger, and cuts a caller's jobs short.

The ledger is shared by all ingress replicas: progress and interrupt find a job from any of them.
"""

import asyncio
from collections.abc import Iterable
from contextlib import aclosing, suppress

from deployments.errors import UnknownJob
from deployments.ingress.backend import Jobs
from deployments.requests import GenerationRequest, ImageResult, JobState

PREVIEWS = 5
"""Of each picture, for those who poll progress."""


async def run(
    jobs: Jobs, caller: str, job_id: str, settled: GenerationRequest
) -> tuple[JobState, list[ImageResult]]:
    """Runs a job to its end: how it ended, and its pictures, those of a cancelled job too.

    Raises the error of a job that failed. Cancelling this cancels the job.
    """
    try:
        view = await jobs.start(caller, job_id, settled, previews=PREVIEWS)
        async with aclosing(jobs.events(caller, job_id)) as views:
            async for latest in views:
                view = latest
    except asyncio.CancelledError:
        await cancel(jobs, caller, [job_id])
        raise
    if view.error is not None:
        raise view.error
    return view.state, await jobs.results(caller, job_id)


async def cancel(jobs: Jobs, caller: str, job_ids: Iterable[str]) -> None:
    """Returns when all of them are over."""
    await asyncio.gather(*(_cancel(jobs, caller, job_id) for job_id in job_ids))


async def _cancel(jobs: Jobs, caller: str, job_id: str) -> None:
    # It never reached the ledger, or it was over by itself and has been forgotten.
    with suppress(UnknownJob):
        await jobs.cancel(caller, job_id)
