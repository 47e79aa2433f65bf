"""What rows tell those who watch them: how far they are, and what they look like so far.

A preview needs no decoder: the device does one product with the model's latent-to-RGB map, for the
rows that are to be shown and no others, and the JPEG is made on the codec threads.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deployments.diffusion.batch import Batch
from deployments.diffusion.codec_pool import CodecPool
from deployments.diffusion.families.family import Family
from deployments.diffusion.run import Run
from deployments.imaging.codecs import encode
from deployments.logs import about
from deployments.requests import Progress

logger = logging.getLogger(__name__)

JPEG_QUALITY = 80


class Reporter:
    """Tells the watchers of running rows about every step."""

    def __init__(self, family: Family, pool: CodecPool) -> None:
        self._family = family
        self._pool = pool
        self.previews = 0

    def stepped(self, batch: Batch, eta_s: Callable[[Run], float]) -> None:
        """Call after every step of `batch`, before the finished leave it."""
        due = []
        for member in batch.members:
            watcher = member.run.ticket.watcher
            if watcher is None:
                continue
            if watcher.wants_preview(member.run.call, member.run.table.calls):
                due.append(member)
                continue
            state: Literal["running", "decoding"]
            state = "running" if member.run.calls_left else "decoding"
            notify(member.run, progress_of(member.run, state, eta_s=eta_s(member.run)))
        if due:
            pixels = self._family.preview(batch.clean(due)).cpu().numpy()
            self.previews += len(due)
            for member, picture in zip(due, pixels, strict=True):
                so_far = progress_of(member.run, "running", eta_s=eta_s(member.run))
                self._pool.submit(_show, member.run, so_far, picture)


def progress_of(
    run: Run,
    state: Literal["waiting", "running", "decoding"],
    *,
    eta_s: float,
    queue_position: int = 0,
) -> Progress:
    """How far the run is now."""
    return Progress(
        row_id=run.row.id,
        state=state,
        call=run.call,
        calls=run.table.calls,
        queue_position=queue_position,
        eta_s=eta_s,
    )


def notify(run: Run, progress: Progress) -> None:
    """Tells the run's watcher, if it has one. What goes wrong there does not concern the row."""
    watcher = run.ticket.watcher
    if watcher is None or run.gone:
        return
    try:
        watcher.notify(progress)
    except Exception:
        logger.exception("row %s: its watcher failed", run.row.id, extra=about(run.row))


def _show(run: Run, progress: Progress, pixels: NDArray[np.uint8]) -> None:
    try:
        notify(run, replace(progress, preview=encode(pixels, "jpeg", JPEG_QUALITY)))
    except Exception:
        logger.exception("row %s: its preview could not be made", run.row.id, extra=about(run.row))
