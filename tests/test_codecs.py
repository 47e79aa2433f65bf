"""The codecs: what the header tells, where damage shows, and encoding.

What each kind of file decodes to is in `test_odd_files.py`.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deployments.errors import InvalidImage
from deployments.imaging.codecs import decode, encode, read_header
from deployments.requests import OutputFormat
from tests.odd_files.make import picture, saved

FORMATS: tuple[OutputFormat, ...] = ("png", "jpeg", "webp")


def opened(data: bytes) -> NDArray[np.int64]:
    return decode(data, param="image", max_megapixels=32.0).astype(np.int64)


# 1. The header


@pytest.mark.parametrize("name", FORMATS)
def test_header_says_format_and_size(name: OutputFormat) -> None:
    header = read_header(saved(picture(), name))
    assert (header.format, header.width, header.height) == (name, 48, 32)


def test_the_limit_is_in_megapixels() -> None:
    data = saved(picture(1000, 1000), "png")
    assert read_header(data, max_megapixels=1.0).width == 1000
    with pytest.raises(InvalidImage, match=r"1000x1000 px, 1\.0 megapixels: the limit is 0\.9"):
        read_header(data, max_megapixels=0.9)


@pytest.mark.parametrize(
    ("kind", "frames", "animated"), [("png", 3, True), ("webp", 3, True), ("png", 1, False)]
)
def test_the_header_tells_of_an_animation(kind: str, frames: int, animated: bool) -> None:
    colours = ["red", "green", "blue"][:frames]
    first, *rest = [Image.new("RGB", (32, 32), colour) for colour in colours]
    data = saved(first, kind, save_all=bool(rest), append_images=rest)
    assert read_header(data).animated is animated


# 2. Damage


@pytest.mark.parametrize("name", FORMATS)
def test_a_truncated_file_is_refused_or_lacks_no_pixel(name: OutputFormat) -> None:
    data = saved(picture(), name)
    whole, decoded = opened(data), []
    for length in range(len(data)):
        try:
            pixels = opened(data[:length])
        except InvalidImage:
            continue
        np.testing.assert_array_equal(pixels, whole)
        decoded.append(length)
    # Checksums and end markers may be missing: at most the last 24 bytes of the file.
    assert not decoded or min(decoded) > len(data) - 24


def test_the_damage_is_named() -> None:
    with pytest.raises(InvalidImage, match=r"image is damaged or incomplete .*truncated"):
        opened(saved(picture(), "jpeg")[:-30])


# 3. Encoding


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (3, 500), (48, 32)])
def test_png_keeps_every_pixel(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(opened(encode(noise, "png", 100)), noise)


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_quality_buys_likeness_with_bytes(name: OutputFormat) -> None:
    pixels = np.asarray(picture(96, 64))
    files = [encode(pixels, name, quality) for quality in (0, 50, 100)]
    apart = [np.abs(opened(data) - pixels).mean() for data in files]
    assert len(files[0]) < len(files[1]) < len(files[2])
    assert apart[0] > apart[1] > apart[2]
    assert apart[2] < 2
    assert read_header(files[1]).format == name


def test_a_good_jpeg_keeps_fine_colours() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 255
    assert np.abs(opened(encode(stripes, "jpeg", 100)) - stripes).mean() < 1


def test_encoding_from_many_threads_gives_the_same_bytes() -> None:
    pixels = np.asarray(picture(200, 100))
    with ThreadPoolExecutor(8) as pool:
        for name in FORMATS:
            files = pool.map(lambda _, name=name: encode(pixels, name, 90), range(16))
            assert set(files) == {encode(pixels, name, 90)}
