"""JPEG of every sampling, mode and marker that cameras and programs write, and broken ones."""

from typing import Any

import numpy as np
from PIL import Image, ImageChops

from tests.odd_files.make import (
    GREY,
    NO_PROFILE,
    PIXELS,
    SWAPPED,
    Case,
    cut_cases,
    flat,
    patched,
    picture,
    saved,
    srgb_profile,
    swapped_profile,
    turned_cases,
)

LOSS = 8
"""Steps that the picture's pixels change by at quality 95."""

BASE = saved(picture(), "jpeg", quality=95, subsampling="4:4:4")
SOF = BASE.index(b"\xff\xc0")
PRECISION, HEIGHT, WIDTH, NUM_LAYERS = SOF + 4, SOF + 5, SOF + 7, SOF + 9


def sound(name: str, data: bytes) -> Case:
    return Case(f"jpeg {name}", data, PIXELS, LOSS)


def refused(name: str, data: bytes, says: str = "") -> Case:
    return Case(f"jpeg {name}", data, "invalid_image", says=says)


def by_pillow(name: str, image: Image.Image | None = None, **options: Any) -> Case:
    return sound(name, saved(image or picture(), "jpeg", quality=95, **options))


def ycck() -> bytes:
    """The picture's inks as brightness and colour, which Pillow does not write but Adobe does."""
    brightness, blue, red = Image.fromarray(255 - PIXELS).convert("YCbCr").split()
    no_black = Image.new("L", brightness.size, 255)
    # Pillow inverts what it writes as CMYK, and marks it as not transformed.
    planes = [ImageChops.invert(plane) for plane in (brightness, blue, red, no_black)]
    data = saved(Image.merge("CMYK", planes), "jpeg", quality=95)
    return patched(data, data.index(b"Adobe") + 11, b"\2")


def grey(name: str, **options: Any) -> Case:
    image = picture().getchannel("R")
    return Case(f"jpeg grey{name}", saved(image, "jpeg", quality=95, **options), GREY, LOSS)


def one_colour(width: int, height: int, subsampling: str) -> Case:
    pixels = flat(width, height, 200, 120, 40)
    data = saved(Image.fromarray(pixels), "jpeg", quality=95, subsampling=subsampling)
    return Case(f"jpeg {width}x{height} {subsampling}", data, pixels, 3)


VARIANTS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True},
    "with a restart every block": {"restart_marker_blocks": 1},
    "with a restart every row": {"restart_marker_rows": 1},
}

KINDS = [
    *[
        by_pillow(f"{subsampling} {name}", subsampling=subsampling, **options)
        for subsampling in ("4:4:4", "4:2:2", "4:2:0")
        for name, options in VARIANTS.items()
    ],
    by_pillow("of RGB", keep_rgb=True),
    by_pillow("of CMYK", picture().convert("CMYK")),
    by_pillow("of CMYK progressive", picture().convert("CMYK"), progressive=True),
    sound("of YCCK", ycck()),
    grey(""),
    grey(" progressive", progressive=True),
    grey(" with a colour profile", icc_profile=swapped_profile()),
    *[
        one_colour(width, height, subsampling)
        for width, height in [(1, 1), (1, 9), (9, 1), (7, 3), (17, 33)]
        for subsampling in ("4:4:4", "4:2:0")
    ],
]


# 1. Segments


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body


def split(data: bytes) -> list[bytes]:
    """The start marker, each segment, and all from the scan on."""
    parts, place = [data[:2]], 2
    while data[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        parts.append(data[place:end])
        place = end
    return [*parts, data[place:]]


def without(marker: int) -> bytes:
    return b"".join(part for part in split(BASE) if part[1] != marker)


def first(*segments: bytes) -> bytes:
    return BASE[:2] + b"".join(segments) + BASE[2:]


def second(junk: bytes) -> bytes:
    """`junk` after the first segment."""
    start, leading, *rest = split(BASE)
    return start + leading + junk + b"".join(rest)


FRAGMENT = segment(0xE2, b"ICC_PROFILE\0\1\2" + swapped_profile())

SEGMENTS = [
    sound("of the extended process", patched(BASE, SOF + 1, b"\xc1")),
    sound("with a comment of HTML", first(segment(0xFE, b"<html><script>alert(1)</script>"))),
    sound("with an empty comment", first(segment(0xFE, b""))),
    sound("with 40 segments of 60 KB", first(*[segment(0xE9, bytes(60_000))] * 40)),
    sound("with junk between segments", second(b"\0\x11\x22a red house")),
    sound("with fill bytes before a marker", second(b"\xff" * 9)),
    sound("with EXIF that is none", first(segment(0xE1, b"Exif\0\0a red house"))),
    sound("with EXIF that ends early", first(segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08"))),
    sound("with XMP", by_pillow("", xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>").data),
    sound("with sRGB's profile", by_pillow("", icc_profile=srgb_profile()).data),
    sound("with half a profile", first(FRAGMENT)),
    sound("with the default Huffman tables left out", without(0xC4)),
    sound("with bytes after its end", BASE + b"a red house" * 9),
    Case(
        "jpeg with a profile", by_pillow("", icc_profile=swapped_profile()).data, SWAPPED, LOSS + 3
    ),
    Case(
        "jpeg of two pictures",
        saved(picture(), "mpo", save_all=True, append_images=[picture().rotate(180)], quality=95),
        PIXELS,
        LOSS,
    ),
    # The frame says how many rows it has; what comes after them is not shown.
    Case("jpeg of half its height", patched(BASE, HEIGHT, b"\0\x10"), PIXELS[:16], LOSS),
]

TURNED = turned_cases("jpeg", LOSS)


# 2. Damage


NOISE = Image.fromarray(np.random.default_rng(9).integers(0, 256, (24, 40, 3), np.uint8))

CUT = [
    *cut_cases("jpeg", saved(NOISE, "jpeg"), 20, 3),
    *cut_cases("jpeg progressive", saved(NOISE, "jpeg", progressive=True), 12, 3),
    *cut_cases("jpeg of CMYK", saved(NOISE.convert("CMYK"), "jpeg"), 6, 3),
]

SCAN = BASE.index(b"\xff\xda")
TABLE = BASE.index(b"\xff\xc4")

SCANS = saved(Image.fromarray(PIXELS), "jpeg", progressive=True)
LAST_SCAN = SCANS[SCANS.rindex(b"\xff\xda") : -2]

DAMAGED = [
    Case(
        "jpeg that repeats its last scan",
        SCANS[:-2] + LAST_SCAN * 200 + SCANS[-2:],
        "invalid_image",
        says="scans",
    ),
    Case(
        "jpeg of 65535x65535",
        patched(BASE, HEIGHT, b"\xff" * 4),
        "image_too_large",
        says="65535x65535 px, 4294.8 megapixels",
    ),
    Case("jpeg of 8000x8000", patched(BASE, HEIGHT, b"\x1f\x40" * 2), "image_too_large"),
    refused("of 65535x1", patched(BASE, HEIGHT, b"\0\1\xff\xff")),
    refused("of no height", patched(BASE, HEIGHT, b"\0\0")),
    refused("of no width", patched(BASE, WIDTH, b"\0\0")),
    refused("of 12 bits", patched(BASE, PRECISION, b"\x0c"), says="12-bit"),
    refused("of 16 bits", patched(BASE, PRECISION, b"\x10"), says="16-bit"),
    *[
        refused(f"of {layers} layers", patched(BASE, NUM_LAYERS, bytes([layers])))
        for layers in (0, 1, 2, 4, 5, 255)
    ],
    *[
        refused(f"of coding process {process}", patched(BASE, SOF + 1, bytes([0xC0 + process])))
        for process in (3, 5, 6, 7, 8, 11, 13, 14, 15)
    ],
    refused("without a frame", without(0xC0)),
    refused("without quantisation", without(0xDB)),
    refused("without a scan", BASE[:SCAN] + b"\xff\xd9"),
    refused("of its start and end alone", b"\xff\xd8\xff\xd9"),
    refused("of its start alone", b"\xff\xd8\xff"),
    refused("of two frames", BASE[:SCAN] + BASE[SOF : SOF + 19] + BASE[SCAN:]),
    refused("with a scan before its frame", first(BASE[SCAN : SCAN + 14])),
    refused("with a table of 4080 codes", patched(BASE, TABLE + 5, b"\xff" * 16)),
    refused("with a segment longer than the file", first(b"\xff\xe9\xff\xff")),
    refused("with 4.6 MB of segments", first(*[segment(0xE9, bytes(65_533))] * 70)),
    refused(
        "with a profile that is none",
        by_pillow("", icc_profile=NO_PROFILE).data,
        says="profile",
    ),
]
