"""The finished: latents become pixels on the engine's thread, pixels become files off it."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from deployments.diffusion.batch import Member
from deployments.diffusion.families.family import Family
from deployments.diffusion.run import Run
from deployments.errors import GenerationFailed
from deployments.imaging.codecs import encode
from deployments.imaging.kernels import composite
from deployments.requests import ImageResult

logger = logging.getLogger(__name__)

_DECODED_AT_ONCE = 4  # bounds the decoder's memory, which at 1024 x 1024 exceeds the denoiser's


class Finisher:
    """Decodes in batches; encodes, composites and answers on a small thread pool."""

    def __init__(self, family: Family, threads: int, clock: Callable[[], float]) -> None:
        self._family = family
        self._clock = clock
        self._codecs = ThreadPoolExecutor(threads, thread_name_prefix="stepwise-codec")

    def finish(self, members: Sequence[Member]) -> None:
        """Decodes the members' samples and hands the pixels to the codec threads."""
        for start in range(0, len(members), _DECODED_AT_ONCE):
            chunk = members[start : start + _DECODED_AT_ONCE]
            latents = torch.stack([member.state[0] for member in chunk])
            finite = latents.isfinite().flatten(1).all(dim=1).tolist()
            pixels = self._family.decode(latents).cpu().numpy()
            for member, sound, picture in zip(chunk, finite, pixels, strict=True):
                self._codecs.submit(self._answer, member.run, picture if sound else None)

    def close(self) -> None:
        """Waits for the pictures being encoded."""
        self._codecs.shutdown()

    def _answer(self, run: Run, pixels: NDArray[np.uint8] | None) -> None:
        if not run.future.set_running_or_notify_cancel():
            return
        try:
            run.future.set_result(self._result(run, pixels))
        except Exception as error:
            logger.exception("row %s failed after its last step", run.row.id)
            run.future.set_exception(
                error if isinstance(error, GenerationFailed) else GenerationFailed(str(error))
            )

    def _result(self, run: Run, pixels: NDArray[np.uint8] | None) -> ImageResult:
        row = run.row
        if pixels is None:
            raise GenerationFailed(
                f"row {row.id} turned into values that are not numbers; "
                f"use a lower guidance_scale (it was {row.guidance_scale:g}) or dtype float32"
            )
        if run.prepared is not None and run.prepared.mask is not None:
            pixels = composite(pixels, run.prepared.pixels, run.prepared.mask)
        content = encode(pixels, row.output_format, row.output_compression)
        now_s = self._clock()
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
        )
        logger.info(
            "row %s: %d calls of %s in %.2f s after %.2f s waiting, %d bytes",
            row.id, run.call, row.scheduler, result.run_s, result.queue_wait_s, len(content),
        )  # fmt: skip
        return result
