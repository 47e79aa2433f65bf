"""The imaging benchmark: that rivals make the same, and all of it once, very small."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imaging import arrays, files, preparation
from imaging.bars import bars
from imaging.encoding_replica import Encoder
from imaging.pictures import NOISE_SIGMA, flat, photo, smooth
from imaging.report import report
from imaging.tables import tables
from imaging.turns import FEWEST, Effort, Figures, medians_ms
from imaging.watch import watched

from deployments.imaging.codecs import decode
from deployments.imaging.filters import Filter
from deployments.requests import OutputFormat

ROOT = Path(__file__).parent.parent
ONCE = Effort(rounds=1, budget_s=1.0)
STEP = 1 / 127.5
"""Of 255, in planes of -1..1."""

PREPARE = ("ours_ms", "pillow_numpy_ms", "opencv_numpy_ms", "numpy_ms")
ENCODE = (
    "ours_ms",
    "ours_bytes",
    "pillow_ms",
    "pillow_bytes",
    "opencv_ms",
    "opencv_bytes",
)
DECODE = ("ours_ms", "pillow_numpy_ms", "opencv_numpy_ms")
WAYS = ("inline", "thread", "replica")
PATH = [f"{way}{ending}" for way in WAYS for ending in ("_ms", "_blocked_ms")]


# Turns and pictures


@pytest.mark.parametrize(("budget_s", "runs"), [(1e-9, FEWEST), (1e9, 20)])
def test_a_rival_over_its_budget_sits_rounds_out(budget_s: float, runs: int) -> None:
    called: list[str] = []
    rivals = {name: partial(called.append, name) for name in ("a", "b")}
    found = medians_ms(rivals, Effort(rounds=20, budget_s=budget_s))
    assert called == ["a", "b"] * (1 + runs)
    assert list(found) == ["a_ms", "b_ms"]


def test_the_photo_is_the_smooth_picture_with_noise() -> None:
    noise = photo(128).astype(float) - smooth(128)
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - NOISE_SIGMA) < 0.15
    np.testing.assert_array_equal(photo(128), photo(128))
    assert len(np.unique(flat(128).reshape(-1, 3), axis=0)) == 3


# What rivals make


@pytest.mark.parametrize(
    ("name", "target"),
    [(name, 64) for name in preparation.PILLOW] + [(name, 256) for name in preparation.ENLARGING],
)
def test_rivals_prepare_the_same_planes(name: Filter, target: int) -> None:
    made = {rival: call() for rival, call in preparation.rivals(smooth(128), target, name).items()}
    for rival, planes in made.items():
        assert planes.shape == (3, target, target), rival
        assert planes.dtype == np.float32, rival
        assert planes.flags.c_contiguous or rival == "numpy", rival
    np.testing.assert_allclose(made["ours"], made["numpy"], rtol=0, atol=2e-6)
    assert np.abs(made["ours"] - made["pillow_numpy"]).max() <= 1.01 * STEP
    # Not the same filters: OpenCV antialiases only area, and its cubic is another one.
    assert np.abs(made["ours"] - made["opencv_numpy"]).mean() < 2 * STEP


@pytest.mark.parametrize("operation", arrays.operations(8))
def test_rivals_make_the_same_arrays(operation: str) -> None:
    made = {rival: call() for rival, call in arrays.operations(64)[operation].items()}
    for rival, array in made.items():
        np.testing.assert_array_equal(array, made["ours"], err_msg=rival)


@pytest.mark.parametrize("name", files.FORMATS)
def test_rivals_decode_the_same_pixels(name: OutputFormat) -> None:
    pixels = photo(64)
    rivals = files.decoders(files.saved(pixels, name))
    made = {rival: call().astype(int) for rival, call in rivals.items()}
    for rival, decoded in made.items():
        assert np.abs(decoded - made["ours"]).mean() <= (0 if name == "png" else 1), rival
    assert np.abs(made["ours"] - pixels).mean() <= (0 if name == "png" else 8)


def test_the_replica_makes_a_png_of_the_same_pixels() -> None:
    content = asyncio.run(Encoder().encode(photo(32)))
    np.testing.assert_array_equal(decode(content, param="x", max_megapixels=1), photo(32))


# The event loop


def test_a_call_that_blocks_the_loop_is_seen() -> None:
    async def blocking() -> None:
        time.sleep(0.05)

    took_ms, blocked_ms = asyncio.run(watched(blocking))
    assert took_ms >= 49
    assert blocked_ms >= 45


# The report


def measured() -> dict[str, Figures]:
    others = {title: flat(32) for title in ("smooth", "flat", "embedded")}
    operations = preparation.measure(32, ONCE) | arrays.measure(32, ONCE)
    return operations | files.measure(32, others, ONCE)


def check_operations(found: dict[str, Any], side: int) -> None:
    half = side // 2
    shrunk = [f"prepare_{name}_{side}_{half}" for name in preparation.PILLOW]
    enlarged = [f"prepare_{name}_{half}_{side}" for name in ("bicubic", "lanczos")]
    for operation in shrunk + enlarged:
        check_figures(found[operation], PREPARE)
    check_figures(found[f"pack_uint8_{side}"], ("ours_ms", "numpy_ms", "twin_ms"))
    for name in ("composite", "luma", "on_white", "latent_grid"):
        check_figures(found[f"{name}_{side}"], ("ours_ms", "numpy_ms"))
    for ending in ("", "_smooth", "_flat", "_embedded"):
        check_figures(found[f"png_{side}{ending}"], ENCODE)
    for name in ("jpeg", "webp"):
        check_figures(found[f"{name}_{side}"], ENCODE)
    for name in files.FORMATS:
        check_figures(found[f"decode_{name}_{side}"], DECODE)


def check_figures(figures: dict[str, Any], keys: tuple[str, ...]) -> None:
    assert tuple(figures) == keys
    for key, value in figures.items():
        assert type(value) is (int if key.endswith("_bytes") else float), key
        assert value > 0, key


def test_every_operation_is_reported_and_printed() -> None:
    found = report(measured(), {"numba": "1"})
    check_operations(found, 32)
    assert found["about"] == {"numba": "1"}
    printed = tables(found)
    for operation in set(found) - {"about", "bars"}:
        assert f"\n{operation} " in printed


def test_bars_are_ratios_at_least_or_at_most() -> None:
    prepare = dict.fromkeys(PREPARE, 6.0) | {"ours_ms": 2.0}
    png = {"ours_ms": 1.0, "ours_bytes": 130, "pillow_ms": 10.0, "pillow_bytes": 100}
    operations: dict[str, Figures] = {
        "prepare_area_1024_512": prepare,
        "prepare_lanczos_512_1024": prepare,
        "pack_uint8_512": {"ours_ms": 1.0, "numpy_ms": 1.0},
        "pack_uint8_1024": {"ours_ms": 1.0, "numpy_ms": 7.0},
        "png_1024": png,
        "png_1024_flat": png,
    }
    found = [(bar.ratio, bar.bar, bar.at_most, bar.met) for bar in bars(operations)]
    assert found == [
        (3.0, 5.0, False, False),
        (3.0, 1.5, False, True),
        (3.0, 1.0, False, True),
        (7.0, 5.0, False, True),
        (10.0, 10.0, False, True),
        (1.3, 1.25, True, False),
    ]
    printed = tables(report(operations, {}))
    assert printed.count("NOT MET") == 2
    assert "<=  1.25  NOT MET" in printed


# All of it


@pytest.mark.slow
def test_a_tiny_benchmark_has_every_figure(tmp_path: Path) -> None:
    """In a process of its own: a Ray of the other tests may run in this one."""
    path = tmp_path / "figures.json"
    arguments = ["--quick", "--sizes", "32", "64", "--side", "64", "--rounds", "2"]
    subprocess.run(
        [sys.executable, "scripts/bench_imaging.py", *arguments, "--json", str(path)],
        cwd=ROOT,
        check=True,
    )
    found = json.loads(path.read_text())
    for side in (32, 64):
        check_operations(found, side)
    for operation in (
        "bytes_to_array_jpeg_64_32",
        "bytes_to_array_png_64_32",
        "array_to_bytes_png_64",
    ):
        assert list(found[operation]) == PATH
        assert min(found[operation][f"{way}_ms"] for way in WAYS) > 0
    assert all(bar["bar"] == 1.0 for bar in found["bars"])
    assert len(found["bars"]) == 12
    assert found["about"]["sizes"] == [32, 64]
    assert isinstance(found["about"]["numba"], str)
