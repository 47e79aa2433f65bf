"""WebP lossy, lossless, with alpha, extended and animated, and broken ones."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.odd_files.make import (
    ALPHA,
    NO_PROFILE,
    PIXELS,
    SWAPPED,
    Case,
    cut_cases,
    flat,
    orientation,
    patched,
    picture,
    saved,
    srgb_profile,
    swapped_profile,
    turned_cases,
)

LOSS = 12
"""Steps that the picture's pixels change by at quality 95."""

LOSSY = saved(picture(), "webp", quality=95)
LOSSLESS = saved(picture(), "webp", lossless=True)
EXTENDED = saved(picture(), "webp", lossless=True, exif=orientation(1))


def riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    return riff_chunk(b"RIFF", b"WEBP" + b"".join(chunks))


def one_colour(width: int, height: int, *rgba: int) -> bytes:
    """A VP8L chunk whose every code has one symbol, so that its pixels take no bits at all."""
    red, green, blue, alpha = rgba
    fields = [(0x2F, 8), (width - 1, 14), (height - 1, 14), (1, 1), (0, 3)]
    fields += [(0, 1), (0, 1), (0, 1)]  # no transform, no colour cache, no groups of codes
    for symbol in (green, red, blue, alpha):
        fields += [(1, 1), (0, 1), (1, 1), (symbol, 8)]  # simple, one symbol, of 8 bits
    fields += [(1, 1), (0, 1), (0, 1), (0, 1)]  # the code of distances
    bits, place = 0, 0
    for value, size in fields:
        bits |= value << place
        place += size
    return riff_chunk(b"VP8L", bits.to_bytes((place + 7) // 8, "little"))


ICC_FLAG, ALPHA_FLAG, EXIF_FLAG, ANIMATION_FLAG = 0x20, 0x10, 0x08, 0x02


def vp8x(width: int, height: int, flags: int) -> bytes:
    return riff_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + low_24(width - 1) + low_24(height - 1))


def low_24(value: int) -> bytes:
    return value.to_bytes(3, "little")


def frame(x: int, y: int, width: int, height: int, content: bytes) -> bytes:
    place = low_24(x // 2) + low_24(y // 2) + low_24(width - 1) + low_24(height - 1)
    return riff_chunk(b"ANMF", place + low_24(100) + b"\0" + content)


def sound(name: str, data: bytes, pixels: NDArray[np.uint8], tolerance: int = 0) -> Case:
    return Case(f"webp {name}", data, pixels, tolerance)


def refused(name: str, data: bytes, says: str = "") -> Case:
    return Case(f"webp {name}", data, "invalid_image", says=says)


def noise(width: int, height: int) -> Case:
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
    data = saved(Image.fromarray(pixels), "webp", lossless=True)
    return sound(f"{width}x{height} lossless", data, pixels)


TRANSLUCENT = Image.fromarray(ALPHA)
SIZES = [(1, 1), (1, 9), (9, 1), (7, 3), (17, 33)]
PINK = (200, 120, 140, 64)

KINDS = [
    sound("lossy", LOSSY, PIXELS, LOSS),
    sound("lossy, slowest method", saved(picture(), "webp", quality=95, method=6), PIXELS, LOSS),
    sound("lossless", LOSSLESS, PIXELS),
    sound("with alpha", saved(TRANSLUCENT, "webp", lossless=True, exact=True), ALPHA),
    sound("lossy with alpha", saved(TRANSLUCENT, "webp", quality=95), ALPHA, LOSS),
    *[noise(width, height) for width, height in SIZES],
    *[
        sound(f"of one colour {width}x{height}", riff(one_colour(width, height, *PINK)), pixels)
        for width, height in [*SIZES, (16_383, 1), (1, 16_383)]
        for pixels in [flat(width, height, *PINK)]
    ],
]


# 1. The container


def extended(flags: int, *chunks: bytes, width: int = 6, height: int = 4) -> bytes:
    return riff(vp8x(width, height, flags | ALPHA_FLAG), *chunks)


ANIM = riff_chunk(b"ANIM", bytes(6))
STILL = one_colour(6, 4, *PINK)
SMALL = one_colour(2, 2, *PINK)
COLOURS = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
IN_A_CORNER = np.zeros((4, 6, 4), np.uint8)
IN_A_CORNER[0:2, 2:4] = PINK
UPSIDE_DOWN = orientation(3).tobytes().removeprefix(b"Exif\0\0")

CONTAINERS = [
    sound("extended", extended(0, STILL), flat(6, 4, *PINK)),
    sound(
        "with an unknown chunk",
        extended(0, STILL, riff_chunk(b"JUNK", b"abc")),
        flat(6, 4, *PINK),
    ),
    sound(
        "with EXIF", extended(EXIF_FLAG, STILL, riff_chunk(b"EXIF", UPSIDE_DOWN)), flat(6, 4, *PINK)
    ),
    sound("with bytes after its end", LOSSLESS + b"a red house" * 9, PIXELS),
    sound("with XMP", saved(picture(), "webp", lossless=True, xmp=b"<x:xmpmeta/>"), PIXELS),
    sound(
        "with sRGB's profile",
        saved(picture(), "webp", lossless=True, icc_profile=srgb_profile()),
        PIXELS,
        1,
    ),
    sound(
        "with a profile",
        saved(picture(), "webp", lossless=True, icc_profile=swapped_profile()),
        SWAPPED,
        3,
    ),
    sound(
        "with a profile and alpha",
        saved(TRANSLUCENT, "webp", lossless=True, exact=True, icc_profile=swapped_profile()),
        np.dstack([SWAPPED, ALPHA[..., 3]]),
        3,
    ),
    sound(
        "animated",
        saved(COLOURS[0], "webp", save_all=True, append_images=COLOURS[1:], lossless=True),
        flat(8, 8, 255, 0, 0),
    ),
    sound(
        "animated and lossy",
        saved(picture(), "webp", save_all=True, append_images=[picture().rotate(180)], quality=95),
        PIXELS,
        LOSS,
    ),
    sound(
        "animated, its first frame in a corner",
        extended(ANIMATION_FLAG, ANIM, frame(2, 0, 2, 2, SMALL), frame(0, 0, 6, 4, STILL)),
        IN_A_CORNER,
    ),
]

TURNED = turned_cases("webp", LOSS)


# 2. Damage


CUT = [
    *cut_cases("webp lossy", LOSSY, 12, 12),
    *cut_cases("webp lossless", LOSSLESS, 12, 12),
    *cut_cases("webp extended", EXTENDED, 6, 12),
]


def bomb(kind: bytes, head: bytes) -> bytes:
    return riff(riff_chunk(kind, head + bytes(40)))


SIDE_16383 = (16_383).to_bytes(2, "little")
SIDES_1600 = (1599 | 1599 << 14).to_bytes(4, "little")

DAMAGED = [
    Case(
        "webp lossy of 16383x16383",
        bomb(b"VP8 ", b"\x30\1\0\x9d\1\x2a" + SIDE_16383 * 2),
        "image_too_large",
        says="16383x16383",
    ),
    Case(
        "webp lossless of 16384x16384",
        riff(one_colour(16_384, 16_384, *PINK)),
        "image_too_large",
        says="16384x16384",
    ),
    Case(
        "webp extended of 20000x20000",
        extended(0, STILL, width=20_000, height=20_000),
        "image_too_large",
        says="20000x20000",
    ),
    refused("with a canvas wider than its picture", extended(0, STILL, width=7)),
    refused("with a canvas lower than its picture", extended(0, STILL, height=3)),
    refused("lossy that claims 1600x1600", patched(LOSSY, 26, b"\x40\6\x40\6")),
    refused("lossless that claims 1600x1600", patched(LOSSLESS, 21, SIDES_1600)),
    refused("lossy of no size", patched(LOSSY, 26, bytes(4))),
    refused("lossy that is no key frame", patched(LOSSY, 20, bytes([LOSSY[20] | 1]))),
    refused("lossy without its start code", patched(LOSSY, 23, b"\0\0\0")),
    refused("lossless without its signature", patched(LOSSLESS, 20, b"\0")),
    refused("lossless of version 7", patched(LOSSLESS, 24, bytes([LOSSLESS[24] | 0xE0]))),
    refused("with an unknown first chunk", patched(LOSSY, 12, b"VP9 ")),
    refused("of its signature alone", b"RIFF\0\0\0\0WEBP"),
    refused("that says it is longer", patched(LOSSLESS, 4, len(LOSSLESS).to_bytes(4, "little"))),
    refused("that says it is shorter", patched(LOSSLESS, 4, b"\x0a\0\0\0")),
    refused("with a chunk of 4 GB", patched(LOSSLESS, 16, b"\xfe\xff\xff\xff")),
    refused("extended of no picture", extended(0)),
    refused("animated of no frames", extended(ANIMATION_FLAG, ANIM)),
    refused(
        "animated, a frame beyond its edge",
        extended(ANIMATION_FLAG, ANIM, frame(4, 0, 6, 4, STILL)),
    ),
    refused(
        "with a profile that is none",
        saved(picture(), "webp", icc_profile=NO_PROFILE),
        says="profile",
    ),
    refused("with EXIF that is none", saved(picture(), "webp", exif=b"a red house")),
]
