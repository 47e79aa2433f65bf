"""What arrives, and when: one trace for each seed, the same for every system.

Times are in mean gaps between arrivals, so that one trace serves every load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deployments.requests import PreparedImage, Row

STEPS = (8, 20, 30, 50)
SHORT = 8
"""Steps of the jobs that must not wait for the long ones."""

MEAN_LANE_STEPS = 2 * sum(STEPS) / len(STEPS)
"""The denoiser's work for a mean job of the plain trace, where every job is guided."""

GUIDANCE = 3.0
MIXED_GUIDANCE = (1.0, 3.0, 7.5)
MIXED_SCHEDULERS = (
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
)
MIXED_STRENGTHS = (0.5, 0.75)
IMAGE_SHARE = 0.25
"""Jobs of the mixed trace that start from an image."""

MOSAICS = 8
"""Input images of a trace."""

BLOCK = 20
"""Jobs in which every number of steps occurs equally often: so it does in every longer prefix."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request for one picture."""

    number: int
    arrival: float
    """In mean gaps since the first arrival."""
    row: Row
    image: PreparedImage | None = None


class Form(NamedTuple):
    """What the model settles of every row."""

    side: int
    """Pixels."""
    scheduler: str


class CallKey(NamedTuple):
    """What jobs must agree on to share one pipeline call."""

    width: int
    height: int
    steps: int
    guidance: float
    scheduler: str
    strength: float | None


def plain_trace(seed: int, count: int, form: Form) -> list[Job]:
    """Poisson arrivals; 8, 20, 30 and 50 steps in equal parts and nothing else mixed."""
    random = np.random.default_rng((seed, 0))
    arrivals, steps = _arrivals(random, count), _steps(random, count)
    return [
        Job(number, arrival, bench_row(f"plain-{seed}-{number}", form, seed, number, steps=step))
        for number, (arrival, step) in enumerate(zip(arrivals, steps, strict=True))
    ]


def mixed_trace(seed: int, count: int, form: Form) -> list[Job]:
    """As the plain trace, with guidance, samplers and image-to-image mixed as well."""
    random = np.random.default_rng((seed, 1))
    arrivals, steps = _arrivals(random, count), _steps(random, count)
    images = [_mosaic(random, form.side) for _ in range(MOSAICS)]
    jobs = []
    for number, (arrival, step) in enumerate(zip(arrivals, steps, strict=True)):
        from_image = random.random() < IMAGE_SHARE
        row = bench_row(
            f"mixed-{seed}-{number}",
            form,
            seed,
            number,
            steps=step,
            guidance_scale=float(random.choice(MIXED_GUIDANCE)),
            scheduler=str(random.choice(MIXED_SCHEDULERS)),
            strength=float(random.choice(MIXED_STRENGTHS)) if from_image else None,
        )
        jobs.append(Job(number, arrival, row, images[number % MOSAICS] if from_image else None))
    return jobs


def call_key(job: Job) -> CallKey:
    """The key of a whole pipeline call."""
    row = job.row
    return CallKey(
        row.width,
        row.height,
        row.num_inference_steps,
        row.guidance_scale,
        row.scheduler,
        row.strength,
    )


def lane_steps(row: Row) -> int:
    """Model calls times lanes, one call a step: what the denoiser does for a row."""
    share = 1.0 if row.strength is None else row.strength
    return int(row.num_inference_steps * share) * (2 if row.guidance_scale > 1 else 1)


def mean_lane_steps(jobs: Sequence[Job]) -> float:
    """The denoiser's work for a mean job."""
    return sum(lane_steps(job.row) for job in jobs) / len(jobs)


def _arrivals(random: np.random.Generator, count: int) -> list[float]:
    gaps = random.exponential(size=count)
    gaps[0] = 0.0
    return [float(arrival) for arrival in np.cumsum(gaps)]


def _steps(random: np.random.Generator, count: int) -> list[int]:
    block = np.repeat(STEPS, BLOCK // len(STEPS))
    blocks: list[NDArray[np.int64]] = [random.permutation(block) for _ in range(-(-count // BLOCK))]
    return [int(steps) for steps in np.concatenate(blocks)[:count]]


def bench_row(
    row_id: str, form: Form, seed: int, number: int, *, steps: int, **changes: Any
) -> Row:
    """A row of a benchmark; of all that might differ nothing does but seed and prompt."""
    fields: dict[str, Any] = {
        "id": row_id,
        "model": "bench",
        # No prompt twice, or the engine would find it encoded; pipelines keep no prompts. The
        # number comes first, so that the shortest tokenizer still sees it.
        "prompt": f"{seed}.{number} a red house on snowy hills at night",
        "negative_prompt": "",
        "prompt_weighting": False,
        "width": form.side,
        "height": form.side,
        "num_inference_steps": steps,
        "guidance_scale": GUIDANCE,
        "guidance_rescale": 0.0,
        "guidance_start": 0.0,
        "guidance_end": 1.0,
        "scheduler": form.scheduler,
        "seed": seed * 1_000_000 + number,
        "strength": None,
        "output_format": "png",
        "output_compression": 100,
        "priority": "normal",
    }
    return Row(**{**fields, **changes})


def _mosaic(random: np.random.Generator, side: int) -> PreparedImage:
    """An input image of 8 x 8 flat tiles."""
    tiles = random.uniform(-1, 1, (3, 8, 8)).astype(np.float32)
    pixels = tiles.repeat(side // 8, 1).repeat(side // 8, 2)
    return PreparedImage(pixels=np.ascontiguousarray(pixels), mask=None, latent_mask=None)
