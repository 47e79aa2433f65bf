"""What most services do: diffusers' pipeline as it comes, one picture after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .plan import Row
from .rig import Rig
from .timing import peak_mib

WARM_STEPS = 2


@contextmanager
def loop(rig: Rig, row: Row) -> Iterator[Callable[[], dict[str, float]]]:
    """Eager, guided, with the pixels on the host at the end and no file made of them."""
    pipeline, model = rig.pipeline(row), rig.model(row)

    def picture(seed: int, steps: int) -> Any:
        images = pipeline(
            prompt=f"{seed} a red house on snowy hills at night",
            num_inference_steps=steps,
            guidance_scale=model.guidance,
            width=model.side,
            height=model.side,
            generator=torch.Generator().manual_seed(seed),
            output_type="pt",
        ).images
        return images.float().mul(255).round().to(torch.uint8).cpu()

    def work() -> dict[str, float]:
        begun_s = time.perf_counter()
        for seed in range(rig.effort.pictures):
            picture(seed, model.steps)
        image_s = (time.perf_counter() - begun_s) / rig.effort.pictures
        return {"images_per_s": 1 / image_s, "image_s": image_s, **peak_mib(rig.device)}

    for _ in range(2):
        picture(0, WARM_STEPS)
    yield work
