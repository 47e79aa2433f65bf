"""The engine against the diffusers pipelines themselves: the same row, the same final latents.

By default every familiar sampler runs in every mode, by turns for one prediction type and the
other; `scripts/test --all` runs whatever else there is, and every sampler on the embedded model.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from deployments.diffusion.engine import Engine
from deployments.diffusion.families.family import Family
from deployments.diffusion.model_files import EMBEDDED
from deployments.diffusion.samplers import SAMPLERS
from deployments.requests import PreparedImage, Row
from tests.driving import drive, driven
from tests.pipelines import MODES, by_pipeline
from tests.rows import make_prepared, make_row
from tests.tiny_model import open_model, save_tiny_model

TOLERANCE = 1e-4
MODELS = ("epsilon", "v_prediction")
FAMILIAR = [name for name in SAMPLERS if not name.endswith("Scheduler")]


class Subject(NamedTuple):
    """A model, its engine, and the latents that the engine hands to the decoder, in order."""

    family: Family
    engine: Engine
    decoded: list[torch.Tensor]


def started(stack: ExitStack, folder: Path) -> Subject:
    """One engine for all the tests of a module, so that tables are made once."""
    family = open_model(folder)
    decode, decoded = family.decode, list[torch.Tensor]()

    def record(latents: torch.Tensor) -> torch.Tensor:
        decoded.extend(latents.clone())
        return decode(latents)

    family.decode = record  # type: ignore[method-assign]
    return Subject(family, stack.enter_context(driven(family)), decoded)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Subject]]:
    """The tiny model in both prediction types."""
    with ExitStack() as stack:
        yield {
            kind: started(
                stack, save_tiny_model(tmp_path_factory.mktemp("tiny"), prediction_type=kind)
            )
            for kind in MODELS
        }


@pytest.fixture(scope="module")
def embedded() -> Iterator[Subject]:
    with ExitStack() as stack:
        yield started(stack, EMBEDDED)


def relative_error(subject: Subject, row: Row, prepared: PreparedImage | None) -> float:
    """Of the engine's final latents against the pipeline's."""
    subject.decoded.clear()
    future = subject.engine.submit(row, prepared)
    drive(subject.engine, [future])
    future.result()
    expected = by_pipeline(subject.family, row, prepared)
    return float((subject.decoded[0] - expected).norm() / expected.norm())


def enlarged(prepared: PreparedImage, times: int, cell: int) -> PreparedImage:
    """The same picture, so many times as large, for a model with `cell` pixels a latent cell."""
    pixels = prepared.pixels.repeat(times, 1).repeat(times, 2)
    if prepared.mask is None:
        return PreparedImage(pixels=pixels, mask=None, latent_mask=None)
    mask = prepared.mask.repeat(times, 0).repeat(times, 1)
    return PreparedImage(
        pixels=pixels, mask=mask, latent_mask=np.ascontiguousarray(mask[::cell, ::cell])
    )


def combinations(modes: Sequence[str], models: Sequence[str]) -> Iterator[Any]:
    for i, sampler in enumerate(SAMPLERS):
        for j, mode in enumerate(modes):
            for k, model in enumerate(models):
                by_turns = sampler in FAMILIAR and (i + j + k) % len(models) == 0
                yield pytest.param(sampler, mode, model, marks=() if by_turns else pytest.mark.slow)


@pytest.mark.parametrize(("sampler", "mode", "model"), [*combinations(list(MODES), MODELS)])
def test_the_tiny_model(tiny: dict[str, Subject], sampler: str, mode: str, model: str) -> None:
    strength, masked = MODES[mode]
    row = make_row(scheduler=sampler, seed=5, strength=strength, num_inference_steps=10)
    prepared = None if strength is None else make_prepared(1, masked=masked)
    error = relative_error(tiny[model], row, prepared)
    assert error <= TOLERANCE, f"relative error {error:.1e}"


A_HANDFUL = {
    ("DPMSolverMultistepScheduler", "text"),
    ("Euler a", "image 0.7"),
    ("DPM++ 2M SDE Karras", "inpaint 0.7"),
    ("UniPC", "inpaint 1.0"),
    ("Heun", "text"),
}


@pytest.mark.parametrize(
    ("sampler", "mode"),
    [
        pytest.param(each, mode, marks=() if (each, mode) in A_HANDFUL else pytest.mark.slow)
        for each in SAMPLERS
        for mode in MODES
    ],
)
def test_the_embedded_model(embedded: Subject, sampler: str, mode: str) -> None:
    """Text to image at the native size, and input images of 256 x 256."""
    strength, masked = MODES[mode]
    factor, side = embedded.family.latent_factor, embedded.family.native_side
    prepared = None
    if strength is not None:
        side = 256
        prepared = enlarged(make_prepared(1, masked=masked), side // 64, factor)
    row = make_row(
        prompt="a red house on snowy hills at night",
        scheduler=sampler,
        seed=5,
        strength=strength,
        num_inference_steps=10,
        width=side,
        height=side,
    )
    error = relative_error(embedded, row, prepared)
    assert error <= TOLERANCE, f"relative error {error:.1e}"
