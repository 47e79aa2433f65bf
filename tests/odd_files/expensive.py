"""The files that take most memory for their length, sixteen at once through a replica."""

import asyncio
import json
import zlib
from pathlib import Path

from PIL import Image

from deployments.errors import InvalidImage
from deployments.imaging.deployment import Imaging
from deployments.imaging.settings import ImagingSettings
from deployments.requests import PreparedImage, PrepareSpec
from tests.odd_files.make import PIXELS, orientation, saved, swapped_profile
from tests.odd_files.others import LONG
from tests.odd_files.png_writer import ADAM7, IEND, SIGNATURE, chunk, deflated, ihdr, png
from tests.odd_files.webp import EXIF_FLAG, ICC_FLAG, extended, one_colour, riff, riff_chunk

WIDTH, HEIGHT = 8000, 4000
"""32 megapixels, the most that the default settings allow."""

SPEC = PrepareSpec(width=64, height=64, latent_factor=8, mask_polarity="transparent")

UPSIDE = orientation(6).tobytes().removeprefix(b"Exif\0\0")

BOMB = deflated((bytes(10**6), 2000))
"""2 MB that inflate to 2 GB."""


def flat_png(
    colour_type: int, depth: int, pixel: bytes, *before: bytes, interlaced: bool = False
) -> bytes:
    runs = [(b"\0" + pixel * WIDTH, HEIGHT)]
    if interlaced:
        runs = [
            (b"\0" + pixel * len(range(x, WIDTH, right)), len(range(y, HEIGHT, down)))
            for x, y, right, down in ADAM7
        ]
    header = ihdr(WIDTH, HEIGHT, depth, colour_type, 0, 0, int(interlaced))
    return SIGNATURE + header + b"".join(before) + chunk(b"IDAT", deflated(*runs)) + IEND


def flat_jpeg(mode: str, *colour: int) -> bytes:
    # Progressive: the whole picture's coefficients are held until the last scan.
    image = Image.new(mode, (WIDTH, HEIGHT), colour)
    return saved(image, "jpeg", quality=95, subsampling="4:4:4", progressive=True)


def files() -> list[tuple[bytes, bytes | None, str]]:
    """An image, its mask, and what must come of them."""
    icc = chunk(b"iCCP", b"icc\0\0" + zlib.compress(swapped_profile()))
    still = one_colour(WIDTH, HEIGHT, 200, 120, 140, 64)
    profile, turn = riff_chunk(b"ICCP", swapped_profile()), riff_chunk(b"EXIF", UPSIDE)
    webp, colour_jpeg = riff(still), flat_jpeg("RGB", 200, 120, 140)
    webp_with_all = extended(ICC_FLAG | EXIF_FLAG, profile, still, turn, width=WIDTH, height=HEIGHT)
    small, zeros = png(PIXELS, 2, 8), bytes(LONG)
    return [
        (flat_png(6, 8, b"\1\2\3\4"), None, "prepared"),
        (flat_png(6, 16, b"\1\0\2\0\3\0\4\0"), None, "prepared"),
        (flat_png(6, 8, b"\1\2\3\4", interlaced=True), None, "prepared"),
        (flat_png(2, 8, b"\1\2\3", icc, chunk(b"eXIf", UPSIDE)), None, "prepared"),
        (flat_png(0, 16, b"\1\2", chunk(b"tRNS", b"\1\2")), None, "prepared"),
        (colour_jpeg, None, "prepared"),
        (flat_jpeg("CMYK", 10, 20, 30, 40), None, "prepared"),
        (webp, None, "prepared"),
        (webp_with_all, None, "prepared"),
        (webp, webp, "prepared"),
        (colour_jpeg, webp, "prepared"),
        (zeros, None, "unsupported_image_format"),
        (b"\xff\xd8\xff" + zeros, None, "invalid_image"),
        (small + zeros, None, "prepared"),
        (
            SIGNATURE + ihdr(8, 8, 8, 2) + chunk(b"IDAT", BOMB) + IEND,
            None,
            "prepared",
        ),
        (SIGNATURE + ihdr(8, 8, 8, 2) + chunk(b"iCCP", b"icc\0\0" + BOMB), None, "invalid_image"),
    ]


def prepare_all_at_once() -> None:
    """Prints what was to come of each, what came of it, and what memory it took, in bytes."""
    asyncio.run(_prepare_all_at_once())


async def _prepare_all_at_once() -> None:
    imaging, sent = Imaging(ImagingSettings()), files()
    before = _memory("VmRSS")
    answers = await asyncio.gather(
        *(imaging.prepare(image, mask, SPEC) for image, mask, _ in sent), return_exceptions=True
    )
    told = {
        "wanted": [outcome for _, _, outcome in sent],
        "got": [_outcome(answer) for answer in answers],
        "grown_bytes": _memory("VmHWM") - before,
    }
    print(json.dumps(told))


def _outcome(answer: PreparedImage | BaseException) -> str:
    if isinstance(answer, PreparedImage):
        return "prepared"
    return answer.code if isinstance(answer, InvalidImage) else repr(answer)


def _memory(name: str) -> int:
    # Not getrusage: its peak begins at what the process that started this one held.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)
