"""The finished: latents become pixels on the engine's thread, pixels become files off it."""

import logging
from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from deployments.diffusion.batch import Member
from deployments.diffusion.codec_pool import CodecPool
from deployments.diffusion.families.family import Family
from deployments.diffusion.isolation import Outcome, isolate
from deployments.diffusion.observations import Observations
from deployments.diffusion.run import Run, answer
from deployments.errors import EngineFailed, GenerationFailed
from deployments.imaging.codecs import encode
from deployments.imaging.kernels import composite
from deployments.logs import about
from deployments.metrics import ETA_RATIO, ROW_TIME
from deployments.requests import ImageResult

logger = logging.getLogger(__name__)

DECODED_AT_ONCE = 4
"""Bounds the decoder's memory, which at 1024 x 1024 exceeds the denoiser's."""


class Finisher:
    """Decodes in batches; encodes, composites and answers on the codec threads.

    One sample at a time under `strict`, since in other company the last bits differ; and on a CPU,
    where four at once take nearly as long as one by one (0.82 s for 0.86 s, embedded model, two
    cores) and all of them would wait for the last.
    """

    def __init__(
        self,
        family: Family,
        pool: CodecPool,
        clock: Callable[[], float],
        observations: Observations,
        *,
        strict: bool = False,
    ) -> None:
        self._family = family
        self._clock = clock
        self._observations = observations
        one_by_one = strict or family.device.type == "cpu"
        self._at_once = 1 if one_by_one else DECODED_AT_ONCE
        self._pool = pool
        self.members: list[Member] = []
        """Sampled, and not yet decoded."""

    def add(self, members: Sequence[Member]) -> None:
        """These have made their last step."""
        now_s = self._clock()
        for member in members:
            run = member.run
            run.passed("queue", run.submitted_s, run.started_s)
            run.passed("steps", run.started_s, now_s)
        self.members += members

    def drop(self, gone: Collection[Run]) -> None:
        """Nobody waits for these any more."""
        self.members = [member for member in self.members if member.run not in gone]

    def decode(self, due: Sequence[Run], at_most: int) -> tuple[int, Outcome[Run]]:
        """Decodes so many of these, of the first one's size; gives how many, and who failed."""
        same = [run for run in due if _size(run) == _size(due[0])][: min(at_most, self._at_once)]
        members = {member.run: member for member in self.members}
        chunk = [members[run] for run in same]
        outcome = isolate(chunk, self._decode).told_of(lambda member: member.run)
        self.members = [member for member in self.members if member not in chunk]
        return len(chunk), outcome

    def _decode(self, members: Sequence[Member]) -> None:
        begun_s = self._clock()
        latents = torch.stack([member.state[0] for member in members])
        finite = latents.isfinite().flatten(1).all(dim=1).tolist()
        pixels = self._family.decode(latents).cpu().numpy()
        ended_s = self._clock()
        for member, sound, picture in zip(members, finite, pixels, strict=True):
            member.run.passed("decode", begun_s, ended_s)
            self._pool.submit(self._answer, member.run, picture if sound else None)

    def _answer(self, run: Run, pixels: NDArray[np.uint8] | None) -> None:
        if run.gone:
            return
        try:
            answer(run.ticket.future, self._result(run, pixels))
        except GenerationFailed as error:
            logger.warning("%s", error.message, extra=about(run.row))
            answer(run.ticket.future, error)
        except Exception:
            logger.exception("row %s could not be encoded", run.row.id, extra=about(run.row))
            answer(
                run.ticket.future, EngineFailed(f"row {run.row.id} could not be encoded; ask again")
            )

    def _result(self, run: Run, pixels: NDArray[np.uint8] | None) -> ImageResult:
        row = run.row
        if pixels is None:
            raise GenerationFailed(
                f"row {row.id} turned into values that are not numbers; "
                f"use a lower guidance_scale (it was {row.guidance_scale:g}) or dtype float32"
            )
        begun_s = self._clock()
        if run.prepared is not None and run.prepared.mask is not None:
            pixels = composite(pixels, run.prepared.pixels, run.prepared.mask)
        content = encode(pixels, row.output_format, row.output_compression)
        now_s = self._clock()
        run.passed("encode", begun_s, now_s)
        result = ImageResult(
            row_id=row.id,
            content=content,
            output_format=row.output_format,
            width=row.width,
            height=row.height,
            seed=row.seed,
            model_calls=run.call,
            queue_wait_s=run.started_s - run.submitted_s,
            run_s=now_s - run.started_s,
            phases=tuple(run.phases),
            warnings=run.warnings,
        )
        self._observations.add(ROW_TIME, now_s - run.submitted_s)
        self._observations.add(ETA_RATIO, (now_s - run.submitted_s) / run.eta_s)
        logger.info(
            "row %s: %d calls of %s in %.2f s after %.2f s waiting, %d bytes",
            row.id, run.call, row.scheduler, result.run_s, result.queue_wait_s, len(content),
            extra=about(row),
        )  # fmt: skip
        return result


def _size(run: Run) -> tuple[int, int]:
    return run.row.width, run.row.height
