"""One row, in a process of its own: the engine with these settings, all rows in step.

`python -m optimizations.measure` reads a Job from stdin, as JSON, writes the pictures where it says
and, as its last line, the figures: or why this cannot run here.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import torch
from batching.trace import Form, bench_row
from numpy.typing import NDArray

from deployments.diffusion.engine import Engine
from deployments.diffusion.families.family import Family
from deployments.diffusion.loading import load_family, start_engine
from deployments.diffusion.settings import DiffusionSettings
from deployments.requests import ImageResult, ModelCard, Row
from optimizations.peak import held_bytes, peak_bytes
from optimizations.plan import LARGE


class Job(msgspec.Struct, frozen=True):
    """What one process measures."""

    settings: dict[str, Any]
    asked: dict[str, Any]
    is_large: bool
    steps: int
    lanes: int
    """Of a full batch."""
    rounds: int
    pictures: str
    """Where they go: a file of (n, height, width, 3) uint8."""


def measure(job: Job) -> dict[str, Any]:
    """The figures; `skipped` with the reason where the settings are refused, or the model does not
    fit."""
    try:
        settings = DiffusionSettings(**job.settings, lane_buckets=(job.lanes,))
        torch.set_num_threads(settings.threads)
        family = load_family(settings)
        engine, card = start_engine(family, settings)
    except (ValueError, torch.OutOfMemoryError) as error:
        return {"skipped": str(error)}
    number = 1 if job.is_large else job.lanes // family.lanes_of_row
    batches = (rows_of(job, card, batch, number) for batch in count())
    rounds = [_round(engine, next(batches)) for _ in range(job.rounds)]
    np.save(job.pictures, np.stack([_pixels(result) for result in rounds[0].results]))
    figures = {
        "step_ms": 1e3 * step_s(rounds),
        "images_per_s": number / statistics.median(one.seconds for one in rounds),
        "peak_mib": _peak(engine, family, next(batches)) / 2**20,
    }
    engine.close()
    return figures


def rows_of(job: Job, card: ModelCard, batch: int, number: int) -> list[Row]:
    """A full batch. No prompt comes twice, so that in every round texts are encoded."""
    sides = LARGE if job.is_large else 1
    form = Form(sides * card.default_width, card.default_scheduler)
    asked: Mapping[str, Any] = {"guidance_scale": card.default_guidance, **job.asked}
    return [
        bench_row(f"row-{batch}-{i}", form, batch, i, steps=job.steps, **asked)
        for i in range(number)
    ]


ARRIVAL_S = 1e-4
"""Between two looks at whether all have arrived, which takes some milliseconds."""


class _Round(msgspec.Struct, frozen=True):
    seconds: float
    step_s: list[float]
    """Of steps of all rows that encoded and decoded nothing."""
    results: list[ImageResult]


def step_s(rounds: Sequence[_Round]) -> float:
    """The median of the rounds' means: the steps of a step cache are of two kinds."""
    return statistics.median(statistics.fmean(one.step_s) for one in rounds)


def _round(engine: Engine, rows: list[Row]) -> _Round:
    """All rows at once, from their arrival to their files; the first step waits for all."""
    begun_s = time.perf_counter()
    futures = [engine.submit(row) for row in rows]
    while engine.stats().arriving:
        time.sleep(ARRIVAL_S)
    for future in futures:
        future.add_done_callback(lambda _: engine.wake())
    step_s = []

    def settled() -> bool:
        return all(future.done() for future in futures)

    while not settled():
        before, before_s = engine.stats(), time.perf_counter()
        if not engine.step():
            engine.wait_for_work(settled)
            continue
        seconds = time.perf_counter() - before_s
        if before.running == len(rows) and engine.stats().finished == before.finished:
            step_s.append(seconds)
    seconds = time.perf_counter() - begun_s
    return _Round(seconds, step_s, [future.result() for future in futures])


def _peak(engine: Engine, family: Family, rows: list[Row]) -> int:
    """Bytes, with the weights. Two steps have all that many have."""
    few = [replace(row, num_inference_steps=2) for row in rows]
    return held_bytes(family) + peak_bytes(lambda: _round(engine, few), family.device)


def _pixels(result: ImageResult) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(result.content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def main() -> None:
    """As said above."""
    job = msgspec.json.decode(Path("/dev/stdin").read_bytes(), type=Job)
    with torch.inference_mode():
        print("\n" + json.dumps(measure(job)), flush=True)


if __name__ == "__main__":
    main()
