"""Warm-up: everything a first request would otherwise wait for, and what each part costs."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

import torch

from deployments.diffusion.adapters.shelf import AdapterShelf
from deployments.diffusion.batch import Batch, Layout, Member
from deployments.diffusion.capacity import CapacityCurve
from deployments.diffusion.desk import Desk
from deployments.diffusion.encoder import Encoder
from deployments.diffusion.families.family import Family, Size
from deployments.diffusion.run import Ticket
from deployments.imaging import kernels
from deployments.requests import Row

logger = logging.getLogger(__name__)

REPEATS = 4
"""Steps of each bucket: the first compiles and allocates, the second records CUDA graphs."""


def warm_up(
    family: Family,
    layout: Layout,
    *,
    scheduler: str,
    sizes: Sequence[Size],
    buckets: Sequence[int],
) -> CapacityCurve:
    """Runs every part at every size, and each lane bucket a few times; the first size is measured.

    Buckets beyond what memory allows are left out of the curve.
    """
    kernels.warm_up()  # finished edits are composited here
    curves = [_measured(family, layout, scheduler, size, buckets) for size in sizes]
    return curves[0]


def _measured(
    family: Family, layout: Layout, scheduler: str, size: Size, buckets: Sequence[int]
) -> CapacityCurve:
    width, height = size
    cells = (height // family.latent_factor, width // family.latent_factor)
    latents = torch.zeros(1, family.latent_channels, *cells, device=family.device)
    pixels = torch.zeros(1, 3, height, width, device=family.device)
    encode_image_s = _fastest(2, lambda: family.encode_images(pixels, latents))
    decode_s = _fastest(2, lambda: family.decode(latents))
    fitting, step_s = [], []
    for bucket in buckets:
        members = members_of(family, scheduler, size, bucket)
        try:
            seconds = _fastest(REPEATS, partial(_stepped, Batch(layout, members)))
        except torch.OutOfMemoryError:
            logger.warning("warm-up: %d lanes of %dx%d exceed the memory", bucket, width, height)
            break
        fitting.append(bucket)
        step_s.append(seconds)
        logger.info("warm-up: %d lanes of %dx%d take %.1f ms", bucket, width, height, seconds * 1e3)
    if not fitting:
        raise torch.OutOfMemoryError(
            f"not even {buckets[0]} lane of {width}x{height} fits into the device's memory; "
            "choose a smaller size, a smaller dtype or a larger device"
        )
    return CapacityCurve(
        lanes=tuple(fitting),
        step_s=tuple(step_s),
        encode_image_s=encode_image_s,
        decode_s=decode_s,
    )


def members_of(family: Family, scheduler: str, size: Size, lanes: int) -> list[Member]:
    """Real rows that take so many lanes: what requests will run, through the code they will run."""
    desk = Desk(family, size, max_chunks=1, shelf=AdapterShelf(family))
    encoder = Encoder(family)
    width, height = size
    runs = []
    for number in range((lanes + 1) // 2 if family.has_second_lane else lanes):
        row = Row(
            id=f"warm-up-{number}",
            model="",
            prompt="",
            negative_prompt="",
            prompt_weighting=False,
            width=width,
            height=height,
            num_inference_steps=REPEATS + 2,
            guidance_scale=1.0 if number == lanes // 2 else 2.0,
            guidance_rescale=0.0,
            guidance_start=0.0,
            guidance_end=1.0,
            scheduler=scheduler,
            seed=number,
            strength=None,
            output_format="png",
            output_compression=100,
            priority="normal",
        )
        run = desk.settle(row, None, Ticket(Future(), 0.0))
        desk.draw_noise(run)
        runs.append(run)
    return encoder.encode(runs)


def _stepped(batch: Batch) -> torch.Tensor:
    batch.step()
    return batch.members[0].state


def _fastest(times: int, work: Callable[[], torch.Tensor]) -> float:
    """Seconds of the fastest of several runs: whatever else the machine does only adds to it."""
    seconds = []
    for _ in range(times):
        begun_s = time.monotonic()
        work().flatten()[0].item()  # .item() waits for the device
        seconds.append(time.monotonic() - begun_s)
    return min(seconds)
