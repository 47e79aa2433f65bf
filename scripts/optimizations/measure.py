"""One row, in a process of its own: the engine with these settings, saturated.

`python -m optimizations.measure` reads a Job from stdin, as JSON, writes the pictures where it says
and, as its last line, the figures: or why this cannot run here.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from deployments.diffusion.engine import Engine
from deployments.diffusion.families.family import Family
from deployments.diffusion.loading import load_family, start_engine
from deployments.diffusion.settings import DiffusionSettings
from deployments.requests import ImageResult, ModelCard, Row
from optimizations.peak import held_bytes, peak_bytes
from optimizations.plan import LARGE

SCENES = ("a red house on snowy hills at night", "a blue boat on the sea at sunset")


class Job(msgspec.Struct, frozen=True):
    """What one process measures."""

    settings: dict[str, Any]
    asked: dict[str, Any]
    is_large: bool
    steps: int
    lanes: int
    """Of a full batch; two for each picture."""
    rounds: int
    pictures: str
    """Where they go: a file of (n, height, width, 3) uint8."""


def measure(job: Job) -> dict[str, Any]:
    """The figures; `skipped` with the reason where the settings are refused."""
    try:
        settings = DiffusionSettings(**job.settings, lane_buckets=(job.lanes,))
        torch.set_num_threads(settings.threads)
        family = load_family(settings)
    except ValueError as error:
        return {"skipped": str(error)}
    engine, card = start_engine(family, settings)
    asked = {"guidance_scale": card.default_guidance, "num_inference_steps": job.steps, **job.asked}
    if job.is_large:
        asked |= {"width": LARGE * card.default_width, "height": LARGE * card.default_height}
    rows = [_row(number, card, asked) for number in range(max(1, job.lanes // 2))]
    rounds = [_round(engine, rows) for _ in range(job.rounds)]
    np.save(job.pictures, np.stack([_pixels(result) for result in rounds[0].results]))
    figures = {
        "step_ms": 1e3 * statistics.median(s for one in rounds for s in one.step_s),
        "images_per_s": len(rows) / statistics.median(one.seconds for one in rounds),
        "peak_mib": _peak(engine, family, rows) / 2**20,
    }
    engine.close()
    return figures


class _Round(msgspec.Struct, frozen=True):
    seconds: float
    step_s: list[float]
    """Of steps of all rows that encoded and decoded nothing."""
    results: list[ImageResult]


def _round(engine: Engine, rows: list[Row]) -> _Round:
    """All rows at once, from their arrival to their files."""
    begun_s = time.perf_counter()
    futures = [engine.submit(row) for row in rows]
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


def _row(number: int, card: ModelCard, asked: Mapping[str, Any]) -> Row:
    fields = {
        "id": f"row-{number}",
        "model": card.id,
        "prompt": SCENES[number % len(SCENES)],
        "negative_prompt": "",
        "prompt_weighting": False,
        "width": card.default_width,
        "height": card.default_height,
        "guidance_rescale": 0.0,
        "guidance_start": 0.0,
        "guidance_end": 1.0,
        "scheduler": card.default_scheduler,
        "seed": number,
        "strength": None,
        "output_format": "png",
        "output_compression": 100,
        "priority": "normal",
    }
    return Row(**{**fields, **asked})


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
