"""How each kind of row is measured.

Each is a context in which everything is warm; what it gives is the work, to be called once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch

from deployments.diffusion.batch import Batch, Layout
from deployments.diffusion.compiled import compiled_step
from deployments.diffusion.step import one_step
from deployments.diffusion.warmup import members_of

from .engine import alone, saturated
from .loop import loop
from .plan import Kind, Row
from .rig import Rig
from .timing import median_s, peak_mib, warmed

Figures = dict[str, float]
Work = Callable[[], Figures]

DECODED, PROMPTS = (1, 4), (1, 8)
"""Pictures that are decoded together, prompts that are read together."""


@contextmanager
def matmul(rig: Rig, _: Row) -> Iterator[Work]:
    """A product of random matrices, whose rate is what the device can do."""
    rig.empty()
    side = rig.effort.matrix
    left, right = (torch.randn(side, side, device=rig.device, dtype=rig.dtype) for _ in range(2))

    def product() -> torch.Tensor:
        return left @ right

    def work() -> Figures:
        seconds = median_s(product, rig.device, rig.effort.repeats)
        return {"ms": 1e3 * seconds, "tflop_per_s": 2 * side**3 / seconds / 1e12}

    warmed(product)
    yield work


@contextmanager
def step(rig: Rig, row: Row) -> Iterator[Work]:
    """A whole step of so many lanes, through the engine's own code, without the engine's queue."""
    inputs = _step_inputs(rig, row)
    call = partial(compiled_step(rig.family(row), rig.settings(row)), *inputs)

    def work() -> Figures:
        seconds = median_s(call, rig.device, rig.effort.repeats)
        flop = row.lanes * rig.forward_flop(row.model)
        return {
            "step_ms": 1e3 * seconds,
            "lane_ms": 1e3 * seconds / row.lanes,
            "tflop_per_s": flop / seconds / 1e12,
            "warm_up_s": warm_up_s,
            **peak_mib(rig.device),
        }

    warm_up_s = warmed(call)
    yield work


def _step_inputs(rig: Rig, row: Row) -> tuple[Any, ...]:
    """What the engine hands to the step of a batch of rows that take so many lanes."""
    family, side = rig.family(row), rig.model(row).side
    seen: list[tuple[Any, ...]] = []

    def noted(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(arguments)
        return one_step(*arguments)

    buckets = (row.lanes,) if rig.settings(row).padded_to else ()
    layout = Layout(family.denoise, family.device, step=noted, buckets=buckets)
    Batch(layout, members_of(family, family.scheduler_name, (side, side), row.lanes)).step()
    return seen[0]


@contextmanager
def parts(rig: Rig, row: Row) -> Iterator[Work]:
    """What comes before and after the steps: text encoders and autoencoder."""
    family, model = rig.family(row), rig.model(row)
    cells = model.side // family.latent_factor
    latents = torch.randn(max(DECODED), family.latent_channels, cells, cells, device=rig.device)
    pixels = torch.rand(1, 3, model.side, model.side, device=rig.device) * 2 - 1
    [chunk] = family.tokenize("a red house", weighting=False, max_chunks=1).chunks
    calls: dict[str, Callable[[], Any]] = {
        **{f"prompts_{n}_ms": partial(family.encode_prompts, [chunk] * n) for n in PROMPTS},
        "encode_1_ms": partial(family.encode_images, pixels, latents[:1]),
        **{f"decode_{n}_ms": partial(family.decode, latents[:n]) for n in DECODED},
    }

    def work() -> Figures:
        found = {
            name: 1e3 * median_s(call, rig.device, rig.effort.repeats)
            for name, call in calls.items()
        }
        return {**found, **peak_mib(rig.device)}

    for call in calls.values():
        warmed(call)
    yield work


Measure = Callable[[Rig, Row], AbstractContextManager[Work]]

MEASURES: Mapping[Kind, Measure] = {
    "matmul": matmul,
    "engine": saturated,
    "alone": alone,
    "loop": loop,
    "parts": parts,
    "step": step,
}


@torch.inference_mode()
def measured(rig: Rig, row: Row) -> Figures:
    """The figures of a row. Raises OutOfMemoryError, and whatever the model raises."""
    with MEASURES[row.kind](rig, row) as work:
        return work()
