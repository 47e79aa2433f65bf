"""Sound PNG with all that may stand beside the pixels: metadata, profiles, animation."""

import struct
import zlib

import numpy as np
from PIL import Image

from tests.odd_files.make import (
    ALPHA,
    GREY,
    NO_PROFILE,
    PIXELS,
    SWAPPED,
    Case,
    flat,
    grey_profile,
    orientation,
    picture,
    saved,
    srgb_profile,
    swapped_profile,
    turned_cases,
)
from tests.odd_files.png import plte
from tests.odd_files.png_writer import IEND, SIGNATURE, chunk, ihdr, png, scanned


def beside(name: str, *before: bytes, after: bytes = b"") -> Case:
    """The picture, whatever stands beside it."""
    return Case(f"png with {name}", png(PIXELS, 2, 8, *before, after=after), PIXELS)


CHRM = chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
GAMA = chunk(b"gAMA", struct.pack(">I", 45455))
SRGB = chunk(b"sRGB", b"\0")
PACKED_TEXT = zlib.compress(b"a red house " * 1000)

COMPANIONS = [
    beside("gAMA", GAMA),
    beside("a gAMA of 1", chunk(b"gAMA", struct.pack(">I", 100_000))),  # only ICC is followed
    beside("a gAMA of 0", chunk(b"gAMA", bytes(4))),
    beside("cHRM", CHRM),
    beside("sRGB", SRGB),
    beside("gAMA, cHRM and sRGB", GAMA, CHRM, SRGB),
    beside("bKGD", chunk(b"bKGD", struct.pack(">3H", 255, 0, 0))),
    beside("pHYs", chunk(b"pHYs", struct.pack(">IIB", 1, 2_000_000_000, 0))),
    beside("sBIT", chunk(b"sBIT", b"\5\6\5")),
    beside("tIME", chunk(b"tIME", struct.pack(">H5B", 1999, 12, 31, 23, 59, 60))),
    beside("hIST", chunk(b"hIST", bytes(512))),
    beside("a suggested palette", plte(8), chunk(b"sPLT", b"few\0\x08" + bytes(60))),
    beside("tEXt", chunk(b"tEXt", b"parameters\0a red house")),
    beside("tEXt without a key", chunk(b"tEXt", b"\0a red house")),
    beside("tEXt without a value", chunk(b"tEXt", b"parameters")),
    beside("zTXt", chunk(b"zTXt", b"parameters\0\0" + PACKED_TEXT)),
    beside("zTXt that is not deflated", chunk(b"zTXt", b"parameters\0\0a red house")),
    beside("iTXt", chunk(b"iTXt", "parameters\0\0\0en\0\0ein rotes H\u00e4uschen".encode())),
    beside("packed iTXt", chunk(b"iTXt", b"parameters\0\1\0\0\0" + PACKED_TEXT)),
    beside("iTXt that is not UTF-8", chunk(b"iTXt", b"parameters\0\0\0\0\0\xff\xfe")),
    beside("1000 texts", *[chunk(b"tEXt", b"key%d\0value" % n) for n in range(1000)]),
    beside("text after the pixels", after=chunk(b"tEXt", b"parameters\0a red house")),
    beside("a private chunk", chunk(b"prVt", bytes(1000))),
    beside("a name of digits", chunk(b"a1_2", bytes(9))),
    beside("a second header after the pixels", after=ihdr(9000, 9000, 8, 2)),
    beside("a palette after the pixels", after=plte(8)),
    beside("an iCCP that is not deflated", chunk(b"iCCP", b"icc\0\0not deflated")),
    beside("an animation of no frames", chunk(b"acTL", bytes(8))),
    Case("png with tRNS beside alpha", png(ALPHA, 6, 8, chunk(b"tRNS", bytes(6))), ALPHA),
    Case("png by Pillow", saved(picture(), "png"), PIXELS),
    Case("png by Pillow, optimised", saved(picture(), "png", optimize=True), PIXELS),
]


# 1. Profiles and EXIF


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile))


RED = Image.new("RGB", (4, 4), "red")

PROFILES = [
    Case("png with sRGB's profile", png(PIXELS, 2, 8, iccp(srgb_profile())), PIXELS, 1),
    Case("png with a profile", png(PIXELS, 2, 8, iccp(swapped_profile())), SWAPPED, 3),
    Case(
        "png with a profile and alpha",
        png(ALPHA, 6, 8, iccp(swapped_profile())),
        np.dstack([SWAPPED, ALPHA[..., 3]]),
        3,
    ),
    Case(
        "png palette with a profile",
        saved(RED.convert("P"), "png", icc_profile=swapped_profile()),
        flat(4, 4, 0, 255, 0),
        2,
    ),
    Case("png grey with a grey profile", png(GREY[..., :1], 0, 8, iccp(grey_profile())), GREY, 2),
    Case("png grey with a colour profile", png(GREY[..., :1], 0, 8, iccp(swapped_profile())), GREY),
    Case("png with a grey profile", png(PIXELS, 2, 8, iccp(grey_profile())), PIXELS),
    Case(
        "png with a profile that is none",
        png(PIXELS, 2, 8, iccp(NO_PROFILE)),
        "invalid_image",
        says="profile",
    ),
]

TURNED = turned_cases("png", 0)

UPSIDE_DOWN = orientation(3).tobytes().removeprefix(b"Exif\0\0")

TURNED += [
    Case(
        "png interlaced with EXIF orientation 3",
        png(PIXELS, 2, 8, chunk(b"eXIf", UPSIDE_DOWN), interlaced=True),
        PIXELS[::-1, ::-1],
    )
]


# 2. Animation


def fctl(number: int, width: int, height: int, x: int = 0, y: int = 0) -> bytes:
    timing_and_blending = (1, 10, 0, 0)
    body = struct.pack(">5I2H2B", number, width, height, x, y, *timing_and_blending)
    return chunk(b"fcTL", body)


ACTL = chunk(b"acTL", struct.pack(">II", 2, 0))
SECOND = zlib.compress(scanned(PIXELS[::-1], 8))
COLOURS = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]

ANIMATED = [
    Case(
        "png animated",
        saved(COLOURS[0], "png", save_all=True, append_images=COLOURS[1:]),
        flat(8, 8, 255, 0, 0),
    ),
    Case(
        "png animated, its still picture no frame",
        png(
            PIXELS,
            2,
            8,
            chunk(b"acTL", struct.pack(">II", 1, 0)),
            after=fctl(0, 48, 32) + chunk(b"fdAT", struct.pack(">I", 1) + SECOND),
        ),
        PIXELS,
    ),
    Case(
        "png animated, its second frame missing",
        png(PIXELS, 2, 8, ACTL, fctl(0, 48, 32)),
        PIXELS,
    ),
    Case(
        "png animated, a frame beyond its edge",
        png(PIXELS, 2, 8, ACTL, fctl(0, 48, 33)),
        "invalid_image",
    ),
    Case(
        "png animated, frames out of order",
        png(PIXELS, 2, 8, ACTL, fctl(1, 48, 32)),
        "invalid_image",
    ),
    Case(
        "png animated and cut within its second frame",
        SIGNATURE
        + ihdr(48, 32, 8, 2)
        + ACTL
        + fctl(0, 48, 32)
        + chunk(b"IDAT", zlib.compress(scanned(PIXELS, 8)))
        + fctl(1, 48, 32)
        + chunk(b"fdAT", struct.pack(">I", 2) + SECOND[:9])
        + IEND,
        PIXELS,
    ),
]
