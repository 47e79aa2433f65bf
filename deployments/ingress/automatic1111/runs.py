"""Makes pictures as a job of the ledger, and cuts a caller's jobs short.

The ledger is shared by all ingress replicas: progress and interrupt find a job from any of them.
"""

import asyncio
import contextvars
from collections.abc import Iterable
from contextlib import aclosing, suppress

from starlette.requests import Request

from deployments.errors import UnknownJob
from deployments.ingress.backend import Jobs
from deployments.ingress.service import caller
from deployments.requests import GenerationRequest, ImageResult, JobState

PREVIEWS = 5
"""Of each picture, for those who poll progress."""


def owner_of(request: Request) -> str:
    """Whose jobs these are in the ledger: the caller's, apart from its jobs of other routes."""
    return f"sdapi/{caller(request)}"


async def run(
    jobs: Jobs, owner: str, job_id: str, settled: GenerationRequest
) -> tuple[JobState, list[ImageResult]]:
    """Runs a job to its end: how it ended, and its pictures, those of a cancelled job too.

    Raises the error of a job that failed. Cancelling this cancels the job.
    """
    try:
        view = await jobs.start(owner, job_id, settled, previews=PREVIEWS)
        while view.state in ("waiting", "running"):
            async with aclosing(jobs.events(owner, job_id)) as views:
                async for _ in views:
                    pass
            # Of the ledger that answers now: another one may have taken over, and run it again.
            view = await jobs.get(owner, job_id)
        results = await jobs.results(owner, job_id, forget=True)
    except BaseException:
        # A task in a context of its own: Serve cancels all calls of a request whose client left.
        ending = asyncio.get_running_loop().create_task(
            _cancel(jobs, owner, job_id), context=contextvars.Context()
        )
        _ENDING.add(ending)
        ending.add_done_callback(_ENDING.discard)
        raise
    if view.error is not None:
        raise view.error
    return view.state, results


async def cancel(jobs: Jobs, owner: str, job_ids: Iterable[str]) -> None:
    """Returns when all of them are over."""
    await asyncio.gather(*(_cancel(jobs, owner, job_id) for job_id in job_ids))


async def _cancel(jobs: Jobs, owner: str, job_id: str) -> None:
    # It never reached the ledger, or it was over by itself and has been forgotten.
    with suppress(UnknownJob):
        await jobs.cancel(owner, job_id)


_ENDING: set[asyncio.Task[None]] = set()
"""Held here, since the loop itself holds tasks only weakly."""
