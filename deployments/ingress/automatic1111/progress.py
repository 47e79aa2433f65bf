"""GET progress: how far a caller's oldest job is.

Clients poll it, and take progress 0 with job_count 0 for "nothing runs".
"""

import time
from collections.abc import Sequence

import msgspec

from deployments.ingress.automatic1111.info import TIMESTAMP
from deployments.requests import JobView

LEAST = 0.01
"""The web UI's own start, so that a job that has not begun does not look like none."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """`state` of the answer."""

    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    job_count: int = 0
    """Pictures of the job ..."""
    job_no: int = 0
    """... and how many of them are done."""
    job_timestamp: str = "0"
    sampling_step: int = 0
    """Model calls done, of all pictures together ..."""
    sampling_steps: int = 0
    """... of so many."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The body of the answer. msgspec writes bytes as base64."""

    progress: float = 0.0
    eta_relative: float = 0.0
    """Seconds until the last picture of the job."""
    state: State = State()
    current_image: bytes | None = None
    """The newest preview, a small JPEG."""
    textinfo: str | None = None


def encode_progress(running: Sequence[JobView], *, with_image: bool) -> bytes:
    """The answer, from the caller's jobs that are not over, oldest first."""
    return msgspec.json.encode(_progress(running[0], with_image) if running else Progress())


def _progress(job: JobView, with_image: bool) -> Progress:
    return Progress(
        progress=max(LEAST, job.call / job.calls if job.calls else 0.0),
        eta_relative=job.eta_s,
        state=State(
            job=job.id,
            job_count=job.images,
            job_no=job.images_done,
            job_timestamp=time.strftime(TIMESTAMP, time.localtime(job.created)),
            sampling_step=job.call,
            sampling_steps=job.calls,
        ),
        current_image=job.preview if with_image else None,
        textinfo=f"waiting: {job.queue_position} go first" if job.state == "waiting" else None,
    )
