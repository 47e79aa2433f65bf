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

from deployments.imaging import kernels, loops, twins
from deployments.imaging.filters import Filter, blur, filter_for, scaled_size, taps
from deployments.requests import ResizeMode

ROOT = Path(__file__).parents[1]
PILLOW: dict[Filter, Image.Resampling] = {
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
FILTERS = st.sampled_from(list(PILLOW))
SIDE = st.one_of(st.just(1), st.integers(1, 9), st.integers(1, 90))
SIZES = st.one_of(
    st.tuples(SIDE, SIDE),
    st.tuples(st.just(4000), st.integers(1, 9)),
    st.tuples(st.integers(1, 9), st.just(4000)),
)
"""Height and width; the long ones are thin, since the twins take seconds for large pictures."""
SEED = st.integers(0, 2**32 - 1)
LAYOUTS = st.sampled_from(["plain", "read-only", "Fortran", "backwards", "every other"])
FLOATS = st.sampled_from([np.float16, np.float32, np.float64])
UNHURRIED = settings(max_examples=60)


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


def laid_out(array: NDArray[Any], layout: str) -> NDArray[Any]:
    """The same values, differently in memory."""
    match layout:
        case "read-only":
            array = array.copy()
            array.flags.writeable = False
        case "Fortran":
            array = np.asfortranarray(array)
        case "backwards":
            array = array[::-1].copy()[::-1]
        case "every other":
            array = np.repeat(array, 2, axis=1)[:, ::2]
    return array


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
    # A sum of 4000 terms in float32.
    atol = 2e-6 + 1e-8 * rows.weights.shape[1]
    np.testing.assert_allclose(ours, twin, rtol=0, atol=atol)
    levels, pillow = (ours + 1) * 127.5, by_pillow(pixels, width, height, across, down)
    if columns.mean_of and rows.mean_of:
        # The mean of whole groups is not rounded half-way, as Pillow's is.
        assert np.abs(np.rint(levels) - pillow).max() <= 1
    else:
        # Pillow rounds its answer to whole steps, ours keeps the fraction: half a step apart.
        assert np.abs(levels - pillow).max() <= 0.5 + 1e-3


@UNHURRIED
@given(SIZES, SIDE, SIDE, st.sampled_from([1, 3]), SEED, FILTERS, FILTERS, LAYOUTS)
@example((1, 1), 1, 1, 3, 0, "bicubic", "area", "plain")
@example((1, 90), 90, 1, 3, 1, "lanczos", "bilinear", "plain")
@example((60, 90), 20, 45, 3, 1, "area", "area", "plain")
def test_resample_is_its_twin_and_pillow(
    size: tuple[int, int],
    to_height: int,
    to_width: int,
    channels: int,
    seed: int,
    across: Filter,
    down: Filter,
    layout: str,
) -> None:
    pixels = laid_out(harsh(seed, *size, channels), layout)
    check_resample(pixels, to_width, to_height, across, down)


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


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize(
    ("size", "target"),
    [
        ((64, 48), (40, 40)),
        ((48, 64), (40, 40)),
        ((31, 90), (64, 24)),
        ((90, 31), (24, 64)),
        ((20, 20), (56, 32)),
        ((1, 300), (8, 8)),
    ],
)
def test_crop_and_pad_are_the_web_uis(
    size: tuple[int, int], target: tuple[int, int], mode: ResizeMode
) -> None:
    (width, height), (to_width, to_height) = size, target
    pixels, scaled = harsh(9, height, width, 3), scaled_size(size, target, mode)
    columns = taps(width, to_width, "bicubic", scaled[0])
    rows = taps(height, to_height, "bicubic", scaled[1])
    ours = kernels.resample(pixels, columns, rows, scale=1.0, offset=0.0)
    # As images.resize_image has it: resized, then pasted by its middle; what is left repeats it.
    resized = by_pillow(pixels, *scaled, "bicubic", "bicubic")
    left, top = to_width // 2 - scaled[0] // 2, to_height // 2 - scaled[1] // 2
    right, bottom = to_width - scaled[0] - left, to_height - scaled[1] - top
    if mode == "crop":
        assert max(left, top, right, bottom) <= 0
        expected = resized[:, -top : scaled[1] + bottom, -left : scaled[0] + right]
    else:
        assert min(left, top, right, bottom) >= 0
        expected = np.pad(resized, ((0, 0), (top, bottom), (left, right)), "edge")
    assert np.abs(ours - expected).max() <= 0.5 + 1e-3


def test_a_line_that_covers_a_square_needs_no_more_memory_than_the_square() -> None:
    scaled = scaled_size((1, 65_535), (512, 512), "crop")
    assert scaled == (512, 512 * 65_535)
    rows = taps(65_535, 512, "bicubic", scaled[1])
    assert rows.weights.size <= 512 * 4


@UNHURRIED
@given(SIDE, SIDE, SEED, st.floats(0.1, 30))
def test_blur_is_a_gaussian(height: int, width: int, seed: int, sigma: float) -> None:
    mask = harsh(seed, height, width, 1)
    columns, rows = blur(width, sigma), blur(height, sigma)
    ours = kernels.resample(mask, columns, rows, scale=1.0, offset=0.0)
    twin = twins.resample(mask, columns, rows, scale=1.0, offset=0.0)
    np.testing.assert_allclose(ours, twin, rtol=0, atol=3e-4)
    # A blur takes the mean of what is near, and of a flat mask that is the mask.
    flat = np.full_like(mask, 200)
    assert np.abs(kernels.resample(flat, columns, rows, scale=1.0, offset=0.0) - 200).max() < 0.5


def test_blur_is_as_wide_as_it_says() -> None:
    edge = np.zeros((1, 81, 1), np.uint8)
    edge[:, 40:] = 255
    soft = kernels.resample(edge, blur(81, 4.0), blur(1, 4.0), scale=1 / 255, offset=0.0)[0, 0]
    # The Gaussian's integral: 0.159 one standard deviation before the edge, 0.841 after it.
    assert abs(soft[40 - 4] + soft[40 - 5] - 2 * 0.159) < 0.05
    assert abs(soft[40 + 4] + soft[40 + 3] - 2 * 0.841) < 0.05
    assert soft[:29].max() == 0
    assert soft[51:].min() == 1


def test_a_thread_reuses_its_buffers() -> None:
    first = kernels._buffer("across", 64, np.float32)
    assert np.shares_memory(kernels._buffer("across", 32, np.float32), first)
    assert len(kernels._buffer("across", 4 * len(first), np.float32)) == 4 * len(first)


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
@given(SIZES, SEED, FLOATS, LAYOUTS)
def test_pack_is_its_twin(size: tuple[int, int], seed: int, dtype: type, layout: str) -> None:
    drawn = laid_out(planes(seed, 3, *size).astype(dtype), layout)
    packed = kernels.pack(drawn)
    assert packed.shape == (*size, 3)
    np.testing.assert_array_equal(packed, twins.pack(drawn))


def test_pack_clamps_and_gives_every_level_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    drawn = (levels.transpose(2, 0, 1) / np.float32(127.5) - 1).astype(np.float32)
    np.testing.assert_array_equal(kernels.pack(drawn), levels)
    beyond = np.array([[[-9, -1, 1, 9]]], np.float32)
    assert kernels.pack(beyond)[0, :, 0].tolist() == [0, 0, 255, 255]


@UNHURRIED
@given(SIZES, SEED, FLOATS, LAYOUTS)
def test_composite_is_its_twin_and_keeps_what_is_not_painted(
    size: tuple[int, int], seed: int, dtype: type, layout: str
) -> None:
    result = laid_out(harsh(seed, *size, 3), layout)
    original = laid_out(planes(seed, 3, *size).astype(dtype), layout)
    mask = laid_out(np.clip(planes(seed + 1, *size), 0, 1).astype(dtype), layout)
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
@given(SIZES, SEED, LAYOUTS)
def test_on_white_is_its_twin_and_pillow(size: tuple[int, int], seed: int, layout: str) -> None:
    height, width = size
    rgba = laid_out(harsh(seed, height, width, 4), layout)
    ours = kernels.on_white(rgba)
    np.testing.assert_array_equal(ours, twins.on_white(rgba))
    white = Image.new("RGBA", (width, height), "white")
    pillow = np.asarray(Image.alpha_composite(white, Image.fromarray(rgba)))[..., :3]
    assert np.abs(ours.astype(int) - pillow).max() <= 1


@UNHURRIED
@given(SIZES, st.sampled_from([3, 4]), SEED, LAYOUTS)
def test_luma_is_its_twin_and_pillow(
    size: tuple[int, int], channels: int, seed: int, layout: str
) -> None:
    pixels = laid_out(harsh(seed, *size, channels), layout)
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
    assert len(loops.composite.signatures) == 1  # type: ignore[attr-defined]


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
from deployments.imaging import kernels, loops
kernels.luma(np.zeros((2, 2, 3), np.uint8))
print(len(loops.luma.stats.cache_hits))
"""


COMPILED = """
from deployments.imaging import kernels, loops
kernels.warm_up()
compiled = [each for each in vars(loops).values() if hasattr(each, "stats")]
print(sum(len(each.signatures) for each in compiled), sum(map(misses, compiled)))
"""


def test_a_second_start_compiles_nothing(tmp_path: Path) -> None:
    script = "def misses(each): return sum(each.stats.cache_misses.values())\n" + COMPILED
    first, second = (run_python(script, ROOT, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    compiled, misses = map(int, first.split())
    assert compiled >= misses > 6
    assert second.split()[1] == "0"


def test_kernels_compile_where_no_cache_can_be_written(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "deployments", tmp_path / "deployments", ignore=shutil.ignore_patterns("__pycache__")
    )
    # Files where folders would have to be: even root cannot write a cache below them.
    (tmp_path / "deployments" / "imaging" / "__pycache__").write_text("")
    assert run_python(ONE_KERNEL, tmp_path, HOME="/dev/null", XDG_CACHE_HOME="/dev/null") == "0"
