"""Every odd and hostile file: the right picture or a clear refusal, in bounded memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.errors import InvalidImage
from deployments.imaging.codecs import ImageHeader, decode, read_header
from deployments.imaging.settings import ImagingSettings
from tests.odd_files import CASES, Case

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

ROOT = Path(__file__).parents[1]
SETTINGS = ImagingSettings()

THREADS = 2

BYTES_PER_PIXEL = 24 + 3
"""What `ImagingSettings.max_megapixels` says of the costliest kind, a WebP with alpha, and three
of the image that waits while its mask is decoded."""


def opened(data: bytes, param: str = "image") -> tuple[ImageHeader, NDArray[np.uint8]]:
    header = read_header(data, param=param, max_megapixels=SETTINGS.max_megapixels)
    return header, decode(data, param=param, max_megapixels=SETTINGS.max_megapixels)


def named(kind: type) -> list[object]:
    """The cases whose expectation is of that type."""
    return [pytest.param(case, id=case.name) for case in CASES if isinstance(case.expected, kind)]


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 200
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", named(np.ndarray))
def test_decodes_to_the_right_picture(case: Case) -> None:
    header, pixels = opened(case.content())
    assert (header.height, header.width) == pixels.shape[:2]
    assert pixels.dtype == np.uint8
    expected = np.asarray(case.expected)
    if pixels.shape[2] > expected.shape[2]:
        assert (pixels[..., 3] == 255).all()
        pixels = pixels[..., :3]
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= case.tolerance


@pytest.mark.parametrize("case", named(str))
def test_is_refused(case: Case) -> None:
    with pytest.raises(InvalidImage) as refused:
        opened(case.content(), "mask")
    assert refused.value.code == case.expected
    assert refused.value.param == "mask"
    assert refused.value.message.startswith("mask ")
    assert case.says in refused.value.message


def test_memory_of_a_replica_is_bounded_while_the_costliest_come_at_once() -> None:
    script = "from tests.odd_files.expensive import prepare_all_at_once as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["got"]) == 16
    assert told["got"] == told["wanted"]
    cap = THREADS * SETTINGS.max_megapixels * 1e6 * BYTES_PER_PIXEL
    assert told["grown_bytes"] < cap, f"{told['grown_bytes'] / 1e6:.0f} MB of {cap / 1e6:.0f}"
