"""Large pictures in tiles: the same picture but for the seams, in a fraction of the memory."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optimizations.peak import peak_bytes

from deployments.diffusion.families.family import Family
from deployments.diffusion.families.tiling import Span, Tiling
from deployments.diffusion.loading import load_engine
from deployments.diffusion.model_files import EMBEDDED
from deployments.diffusion.settings import DiffusionSettings
from deployments.requests import PreparedImage
from tests.driving import drive, driven, pixels
from tests.rows import make_row
from tests.tiny_model import open_model

CPU = torch.device("cpu")

SEAM_LEVELS, SEAM_MEAN_LEVELS = 20, 0.5
"""Of 255: what tiles may change at most, and on average, in a picture of the embedded model, where
a tile overlaps the next by 128 pixels. Seen: 11 and 0.23, in 18 pictures up to 1920x1120."""


@pytest.fixture(scope="module")
def tiled_embedded() -> Family:
    return open_model(EMBEDDED, vae_tiling=True)


@pytest.mark.parametrize(
    ("length", "tiles"), [(5, 1), (16, 1), (17, 2), (24, 2), (25, 3), (240, 29)]
)
def test_tiles_are_of_one_length_and_overlap(length: int, tiles: int) -> None:
    spans = Tiling(16).spans(length)
    assert len(spans) == tiles
    assert (spans[0].start, spans[-1].stop) == (0, length)
    assert {span.stop - span.start for span in spans} == {min(length, 16)}
    overlaps = [one.stop - other.start for one, other in pairwise(spans)]
    assert all(overlap >= Tiling(16).overlap - 1 for overlap in overlaps)


@pytest.mark.parametrize(("side", "overlap"), [(8, 4), (16, 8), (32, 8), (64, 16), (128, 32)])
def test_small_tiles_overlap_by_as_many_cells_as_an_autoencoder_sees(
    side: int, overlap: int
) -> None:
    assert Tiling(side).overlap == overlap


@pytest.mark.parametrize("size", [(16, 16), (35, 60), (17, 5)])
def test_shares_add_up_to_the_whole(size: tuple[int, int]) -> None:
    whole = torch.rand(2, 3, *size)

    def enlarged(rows: Span, columns: Span) -> torch.Tensor:
        tile = whole[..., rows.times(1), columns.times(1)]
        return torch.nn.functional.interpolate(tile, scale_factor=4.0)

    blended = Tiling(16).blended(enlarged, *size)
    torch.testing.assert_close(blended, torch.nn.functional.interpolate(whole, scale_factor=4.0))


def shapes_seen(
    vae: Any, name: str, work: Callable[[], torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> list[tuple[int, ...]]:
    """The shapes with which the autoencoder's method is called during `work`."""
    method, seen = getattr(vae, name), []

    def watched(tensor: torch.Tensor, **more: Any) -> Any:
        seen.append(tuple(tensor.shape))
        return method(tensor, **more)

    with monkeypatch.context() as patch:
        patch.setattr(vae, name, watched)
        work()
    return seen


def test_what_is_larger_than_the_native_square_is_tiled(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = open_model(tiny_folder, vae_tiling=True)
    vae = family.pipeline.vae
    wide, native = torch.zeros(2, 4, 8, 20), torch.zeros(2, 4, 8, 8)
    pictures = torch.zeros(2, 3, 64, 160)
    with torch.inference_mode():
        decoded = shapes_seen(vae, "decode", lambda: family.decode(wide), monkeypatch)
        encoded = shapes_seen(
            vae, "encode", lambda: family.encode_images(pictures, wide), monkeypatch
        )
        whole = shapes_seen(vae, "decode", lambda: family.decode(native), monkeypatch)
        assert family.decode(wide).shape == (2, 64, 160, 3)
        assert family.encode_images(pictures, wide).shape == wide.shape
    assert decoded == [(2, 4, 8, 8)] * 4
    assert encoded == [(2, 3, 64, 64)] * 4
    assert whole == [(2, 4, 8, 8)]


@pytest.mark.parametrize(("folder", "cells"), [("tiny", 64), ("embedded", 48)])
def test_a_large_decode_takes_a_third_of_the_memory_at_most(
    tiny_folder: Path, tiled_embedded: Family, embedded_family: Family, folder: str, cells: int
) -> None:
    if folder == "tiny":
        whole, tiled = open_model(tiny_folder), open_model(tiny_folder, vae_tiling=True)
    else:
        whole, tiled = embedded_family, tiled_embedded
    latents = torch.randn(1, whole.latent_channels, cells, cells)
    with torch.inference_mode():
        untiled_bytes = peak_bytes(lambda: whole.decode(latents), CPU)
        tiled_bytes = peak_bytes(lambda: tiled.decode(latents), CPU)
    assert tiled_bytes <= untiled_bytes / 3


def large_input(width: int, height: int) -> PreparedImage:
    """An input image of smooth colours."""
    coarse = np.random.default_rng(1).uniform(-1, 1, (3, height // 80, width // 80))
    planes = coarse.astype(np.float32).repeat(80, 1).repeat(80, 2)
    return PreparedImage(pixels=np.ascontiguousarray(planes), mask=None, latent_mask=None)


@pytest.mark.parametrize("strength", [None, 0.6])
@pytest.mark.parametrize(
    "size", [(960, 560), pytest.param((1920, 1120), marks=pytest.mark.slow, id="3840x2224 scaled")]
)
def test_a_large_picture_is_the_untiled_one_but_for_seams(
    embedded_family: Family,
    tiled_embedded: Family,
    size: tuple[int, int],
    strength: float | None,
) -> None:
    """The embedded model's native side is half of Stable Diffusion's: 3840x2224 is 1920x1120."""
    width, height = size
    prepared = None if strength is None else large_input(width, height)
    row = make_row(
        width=width,
        height=height,
        strength=strength,
        num_inference_steps=3,
        scheduler="DPMSolverMultistepScheduler",
    )
    found = []
    for family in (embedded_family, tiled_embedded):
        with driven(family) as engine:
            future = engine.submit(row, prepared)
            drive(engine, [future])
            found.append(pixels(future.result()))
    whole, tiled = found
    assert tiled.shape == (height, width, 3)
    difference = np.abs(whole - tiled)
    assert difference.max() <= SEAM_LEVELS
    assert difference.mean() <= SEAM_MEAN_LEVELS


def test_declared_sizes_may_be_larger_than_the_usual(tiny_folder: Path, tmp_path: Path) -> None:
    settings = DiffusionSettings(
        id="tiny",
        source=str(tiny_folder),
        device="cpu",
        sizes=("64x64", "480x272"),
        lane_buckets=(1, 2),
        vae_tiling=True,
        cache_folder=str(tmp_path),
        max_queue_s=1e9,
    )
    with torch.inference_mode():
        engine, card = load_engine(settings)
        future = engine.submit(make_row(width=480, height=272, num_inference_steps=2))
        drive(engine, [future])
        engine.close()
    assert (card.min_side, card.max_side) == (32, 480)
    assert pixels(future.result()).shape == (272, 480, 3)
