"""Each kernel against its plain twin, and the resampling also against Pillow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from deployments.imaging import kernels, twins
from deployments.imaging.filters import Filter, filter_for, taps

ROOT = Path(__file__).parents[1]
PILLOW: dict[Filter, Image.Resampling] = {
    "area": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
}
SIDE = st.one_of(st.just(1), st.integers(1, 9), st.integers(1, 90))
SEED = st.integers(0, 2**32 - 1)
UNHURRIED = settings(deadline=None, max_examples=60)


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    kernels.warm_up()


def harsh(seed: int, *shape: int) -> NDArray[np.uint8]:
    """Half of it pure black or white, so that bicubic overshoots everywhere."""
    draw = np.random.default_rng(seed)
    picture = draw.integers(0, 256, shape, dtype=np.uint8)
    return np.where(draw.random(shape) < 0.5, (picture > 127) * np.uint8(255), picture)


def planes(seed: int, *shape: int) -> NDArray[np.float32]:
    """A little beyond -1..1, where packing has to clamp."""
    return np.random.default_rng(seed).uniform(-1.2, 1.2, shape).astype(np.float32)


def by_pillow(
    pixels: NDArray[np.uint8], width: int, height: int, across: Filter, down: Filter
) -> NDArray[np.float64]:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image = image.resize((width, pixels.shape[0]), PILLOW[across])
    image = image.resize((width, height), PILLOW[down])
    return np.asarray(image, np.float64).reshape(height, width, -1).transpose(2, 0, 1)


def check_resample(
    pixels: NDArray[np.uint8], width: int, height: int, across: Filter, down: Filter
) -> None:
    columns = taps(pixels.shape[1], width, across)
    rows = taps(pixels.shape[0], height, down)
    ours = kernels.resample(pixels, columns, rows, scale=1 / 127.5, offset=-1.0)
    twin = twins.resample(pixels, columns, rows, scale=1 / 127.5, offset=-1.0)
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    np.testing.assert_allclose(ours, twin, rtol=0, atol=2e-6)
    # Pillow rounds its answer to whole steps, ours keeps the fraction: half a step apart.
    pillow = by_pillow(pixels, width, height, across, down)
    assert np.abs((ours + 1) * 127.5 - pillow).max() <= 0.5 + 1e-3


@UNHURRIED
@given(SIDE, SIDE, SIDE, SIDE, st.sampled_from([1, 3]), SEED, st.booleans(), st.booleans())
@example(1, 1, 1, 1, 3, 0, True, False)
@example(1, 90, 90, 1, 3, 1, True, True)
def test_resample_is_its_twin_and_pillow(
    height: int,
    width: int,
    to_height: int,
    to_width: int,
    channels: int,
    seed: int,
    bicubic_across: bool,
    bicubic_down: bool,
) -> None:
    pixels = harsh(seed, height, width, channels)
    across: Filter = "bicubic" if bicubic_across else "area"
    check_resample(pixels, to_width, to_height, across, "bicubic" if bicubic_down else "area")


@pytest.mark.parametrize(
    ("size", "target"),
    [
        ((1024, 1024), (512, 512)),
        ((768, 1023), (512, 512)),
        ((333, 512), (512, 768)),
        ((1, 4000), (64, 64)),
        ((4000, 1), (64, 64)),
        ((3, 4000), (8, 4001)),
        ((65_535, 1), (8, 8)),
    ],
)
def test_resample_with_the_filters_of_its_size(
    size: tuple[int, int], target: tuple[int, int]
) -> None:
    (height, width), (to_height, to_width) = size, target
    across, down = filter_for(width, to_width), filter_for(height, to_height)
    check_resample(harsh(7, height, width, 3), to_width, to_height, across, down)


def test_same_size_is_the_identity() -> None:
    pixels = harsh(3, 31, 17, 3)
    columns, rows = taps(17, 17, filter_for(17, 17)), taps(31, 31, filter_for(31, 31))
    ours = kernels.resample(pixels, columns, rows, scale=1 / 127.5, offset=-1.0)
    np.testing.assert_array_equal(kernels.pack(ours), pixels)


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        (512, 512, "area"),
        (1024, 512, "area"),
        (2049, 512, "area"),
        (1024, 768, "bicubic"),
        (1000, 400, "bicubic"),
        (64, 512, "bicubic"),
    ],
)
def test_filter_for(source: int, target: int, name: Filter) -> None:
    assert filter_for(source, target) == name


@UNHURRIED
@given(SIDE, SIDE, SEED)
def test_pack_is_its_twin(height: int, width: int, seed: int) -> None:
    drawn = planes(seed, 3, height, width)
    packed = kernels.pack(drawn)
    assert packed.shape == (height, width, 3)
    np.testing.assert_array_equal(packed, twins.pack(drawn))


def test_pack_clamps_and_gives_every_level_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    drawn = (levels.transpose(2, 0, 1) / np.float32(127.5) - 1).astype(np.float32)
    np.testing.assert_array_equal(kernels.pack(drawn), levels)
    beyond = np.array([[[-9, -1, 1, 9]]], np.float32)
    assert kernels.pack(beyond)[0, :, 0].tolist() == [0, 0, 255, 255]


@UNHURRIED
@given(SIDE, SIDE, SEED)
def test_composite_is_its_twin_and_keeps_what_is_not_painted(
    height: int, width: int, seed: int
) -> None:
    result, original = harsh(seed, height, width, 3), planes(seed, 3, height, width)
    mask = np.clip(planes(seed + 1, height, width), 0, 1)
    mixed = kernels.composite(result, original, mask)
    np.testing.assert_array_equal(mixed, twins.composite(result, original, mask))
    np.testing.assert_array_equal(mixed[mask == 0], kernels.pack(original)[mask == 0])
    np.testing.assert_array_equal(mixed[mask == 1], result[mask == 1])


@UNHURRIED
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 4, 8, 16]), SEED)
def test_latent_grid_is_its_twin(rows: int, columns: int, factor: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    mask = draw.random((rows * factor, columns * factor), np.float32)
    mask[draw.random(mask.shape) < 0.98] = 0
    cells = kernels.latent_grid(mask, factor)
    assert cells.shape == (rows, columns)
    np.testing.assert_array_equal(cells, twins.latent_grid(mask, factor))


def test_latent_grid_counts_the_faintest_paint() -> None:
    mask = np.zeros((16, 24), np.float32)
    mask[15, 8] = 1e-6
    assert kernels.latent_grid(mask, 8).tolist() == [[0, 0, 0], [0, 1, 0]]


@UNHURRIED
@given(SIDE, SIDE, SEED)
def test_on_white_is_its_twin_and_pillow(height: int, width: int, seed: int) -> None:
    rgba = harsh(seed, height, width, 4)
    ours = kernels.on_white(rgba)
    np.testing.assert_array_equal(ours, twins.on_white(rgba))
    white = Image.new("RGBA", (width, height), "white")
    pillow = np.asarray(Image.alpha_composite(white, Image.fromarray(rgba)))[..., :3]
    assert np.abs(ours.astype(int) - pillow).max() <= 1


@UNHURRIED
@given(SIDE, SIDE, st.sampled_from([3, 4]), SEED)
def test_luma_is_its_twin_and_pillow(height: int, width: int, channels: int, seed: int) -> None:
    pixels = harsh(seed, height, width, channels)
    ours = kernels.luma(pixels)
    np.testing.assert_array_equal(ours, twins.luma(pixels))
    np.testing.assert_array_equal(ours, np.asarray(Image.fromarray(pixels).convert("L")))


def test_read_only_and_strided_arrays_need_no_second_compilation() -> None:
    result, original = harsh(1, 10, 12, 3), planes(2, 3, 10, 12)
    mask = (planes(3, 10, 12) > 0).astype(np.float32)
    expected = twins.composite(result, original, mask)
    received = [array.copy() for array in (result, original, mask)]
    for array in received:
        array.flags.writeable = False
    strided: list[NDArray[Any]] = [
        np.asfortranarray(result),
        np.repeat(original, 2, axis=2)[..., ::2],
        mask[::-1][::-1],
    ]
    for arrays in (received, strided):
        np.testing.assert_array_equal(kernels.composite(*arrays), expected)
    assert len(kernels._composite.signatures) == 1  # type: ignore[attr-defined]


def run_python(script: str, cwd: Path, **environment: str) -> str:
    """Runs it with nothing of this process's environment but the path to programs."""
    clean = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=cwd, env=clean, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


ONE_KERNEL = """
import numpy as np
from deployments.imaging import kernels
kernels.luma(np.zeros((2, 2, 3), np.uint8))
print(len(kernels._luma.stats.cache_hits))
"""


def test_a_second_start_loads_the_kernels_from_the_cache_folder(tmp_path: Path) -> None:
    found = [run_python(ONE_KERNEL, ROOT, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    assert found == ["0", "1"]


def test_kernels_compile_where_no_cache_can_be_written(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "deployments", tmp_path / "deployments", ignore=shutil.ignore_patterns("__pycache__")
    )
    # Files where folders would have to be: even root cannot write a cache below them.
    (tmp_path / "deployments" / "imaging" / "__pycache__").write_text("")
    assert run_python(ONE_KERNEL, tmp_path, HOME="/dev/null", XDG_CACHE_HOME="/dev/null") == "0"
