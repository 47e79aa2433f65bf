"""PNG that is cut, contradicts itself or asks for more than it may."""

import struct
import zlib

import numpy as np

from tests.odd_files.make import PIXELS, Case, cut_cases, flat, patched
from tests.odd_files.png import kind, noise, plte
from tests.odd_files.png_writer import IEND, SIGNATURE, chunk, deflated, ihdr, scanned

IHDR = ihdr(48, 32, 8, 2)
STREAM = scanned(PIXELS, 8)
ROW_BYTES = 1 + 48 * 3
PACKED = zlib.compress(STREAM)
IDAT = chunk(b"IDAT", PACKED)
PALETTE_IHDR = ihdr(13, 11, 4, 3)
PALETTE_IDAT = chunk(b"IDAT", zlib.compress(scanned(noise(3, 4), 4)))


def file(*chunks: bytes) -> bytes:
    return SIGNATURE + b"".join(chunks)


def sound(name: str, *chunks: bytes) -> Case:
    return Case(f"png {name}", file(*chunks), PIXELS)


def refused(name: str, *chunks: bytes, says: str = "") -> Case:
    return Case(f"png {name}", file(*chunks), "invalid_image", says=says)


CUT = [
    *cut_cases("png", kind(2, 8, "", size=(17, 13)).data, 50, len(SIGNATURE)),
    *cut_cases("png interlaced", kind(2, 8, " interlaced", size=(17, 13)).data, 12, 8),
]


# 1. The header


def too_large(width: int, height: int, says: str) -> Case:
    data = file(ihdr(width, height, 8, 2), IDAT, IEND)
    return Case(f"png of {width}x{height}", data, "image_too_large", says=says)


HEADERS = [
    too_large(20_000, 20_000, "20000x20000 px, 400.0 megapixels: the limit is 32"),
    too_large(2**31 - 1, 2**31 - 1, "2147483647x2147483647"),
    too_large(2**32 - 1, 1, "4294967295x1"),
    too_large(65_536, 1, "longer than 65535 px on a side"),
    too_large(1, 70_000, "1x70000"),
    too_large(6000, 5334, "32.0 megapixels"),
    Case("png with two headers", file(IHDR, ihdr(9000, 9000, 8, 2), IDAT), "image_too_large"),
    *[
        refused(f"colour type {colour_type} at {depth} bits", ihdr(4, 4, depth, colour_type), IDAT)
        for depth, colour_type in [
            *[(0, 0), (3, 0), (32, 0), (1, 2), (4, 2), (16, 3), (4, 4), (2, 6)],
            *[(8, 1), (8, 5), (8, 7), (255, 255)],
        ]
    ],
    refused("of no width", ihdr(0, 5, 8, 2), IDAT, IEND),
    refused("of no height", ihdr(5, 0, 8, 2), IDAT, IEND),
    refused("of no size", ihdr(0, 0, 8, 2), IDAT, IEND),
    refused("with an unknown filter method", ihdr(48, 32, 8, 2, 0, 1, 0), IDAT, IEND),
    refused("with half a header", chunk(b"IHDR", bytes(7)), IDAT, IEND),
    refused("without a header", IDAT, IEND),
    refused("that ends after its header", IHDR),
    refused("of its signature alone"),
    refused("with 5 MB before its pixels", IHDR, chunk(b"prVt", bytes(5_000_000)), IDAT, IEND),
]


# 2. Checksums


def wrong(content: bytes) -> bytes:
    """A chunk with another checksum."""
    return patched(content, len(content) - 1, bytes([content[-1] ^ 1]))


TEXT = chunk(b"tEXt", b"parameters\0a red house")
GAMA = chunk(b"gAMA", struct.pack(">I", 45455))

CHECKSUMS = [
    refused("with a wrong checksum of IHDR", wrong(IHDR), IDAT, IEND, says="checksum"),
    refused("with a wrong checksum of gAMA", IHDR, wrong(GAMA), IDAT, IEND, says="checksum"),
    refused("with a wrong checksum of tEXt", IHDR, wrong(TEXT), IDAT, IEND, says="checksum"),
    refused(
        "with a wrong checksum of PLTE", PALETTE_IHDR, wrong(plte(4)), PALETTE_IDAT, says="PLTE"
    ),
    refused("with a wrong checksum of deflate", IHDR, chunk(b"IDAT", wrong(zlib.compress(b"")))),
    # The pixels are all there.
    sound("with a wrong checksum of IDAT", IHDR, wrong(IDAT), IEND),
    sound("with a wrong checksum of IEND", IHDR, IDAT, wrong(IEND)),
    sound("with a wrong checksum after the pixels", IHDR, IDAT, wrong(TEXT), IEND),
]


# 3. Chunks


CHUNKS = [
    sound("without IEND", IHDR, IDAT),
    refused("without IDAT", IHDR, IEND),
    refused("without a palette", PALETTE_IHDR, PALETTE_IDAT, IEND),
    refused("without a palette but its alpha", PALETTE_IHDR, chunk(b"tRNS", b"\1\2"), PALETTE_IDAT),
    refused("with a palette of 300", PALETTE_IHDR, chunk(b"PLTE", bytes(900)), PALETTE_IDAT, IEND),
    refused("with a chunk of no name", IHDR, chunk(b"\0\0\0\0", b""), IDAT, IEND),
    refused("with a chunk of 4 GB", IHDR, b"\xff\xff\xff\xfftEXt", IDAT, IEND),
    refused("with a chunk longer than the file", IHDR, b"\0\1\0\0tEXt", IDAT, IEND),
    *[
        refused(f"with a short {name.decode()}", IHDR, chunk(name, b""), IDAT, IEND)
        for name in (b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"iCCP", b"acTL", b"fcTL")
    ],
    refused("with an unknown profile packing", IHDR, chunk(b"iCCP", b"icc\0\7"), IDAT, IEND),
    refused("with an unknown text packing", IHDR, chunk(b"zTXt", b"key\0\7"), IDAT, IEND),
    refused("with EXIF that is none", IHDR, chunk(b"eXIf", b"a red house"), IDAT, IEND),
]


# 4. The pixels


def parts(size: int) -> bytes:
    """The pixels in chunks of so many bytes."""
    return b"".join(chunk(b"IDAT", PACKED[at : at + size]) for at in range(0, len(PACKED), size))


NOTHING = chunk(b"IDAT", b"")
BLACK_BELOW = np.where(np.arange(32)[:, None, None] < 20, PIXELS, 0).astype(np.uint8)
DICTIONARY = zlib.compressobj(zdict=STREAM)

PIXEL_DATA = [
    sound("with its pixels in chunks of a byte", IHDR, parts(1), IEND),
    sound("with its pixels in chunks of 7 bytes", IHDR, parts(7), IEND),
    sound("with empty chunks of pixels", IHDR, NOTHING, NOTHING, IDAT, NOTHING, IEND),
    sound(
        "with rows to spare",
        IHDR,
        chunk(b"IDAT", zlib.compress(STREAM + bytes(9 * ROW_BYTES))),
        IEND,
    ),
    # The file says itself that it ends there, so nothing was lost on the way.
    Case(
        "png with rows missing",
        file(IHDR, chunk(b"IDAT", zlib.compress(STREAM[: 20 * ROW_BYTES])), IEND),
        BLACK_BELOW,
    ),
    refused("with half a row", IHDR, chunk(b"IDAT", zlib.compress(STREAM[:1000])), IEND),
    refused("with pixels of no bytes", IHDR, NOTHING, IEND),
    refused("with its pixels torn", IHDR, chunk(b"IDAT", PACKED[:50]), TEXT, IDAT, IEND),
    refused("with its pixels twice deflated", IHDR, chunk(b"IDAT", zlib.compress(PACKED)), IEND),
    refused("with pixels not deflated", IHDR, chunk(b"IDAT", STREAM), IEND),
    refused("with pixels of a bad block", IHDR, chunk(b"IDAT", PACKED[:2] + b"\xff" * 99), IEND),
    refused(
        "with pixels that need a dictionary",
        IHDR,
        chunk(b"IDAT", DICTIONARY.compress(STREAM) + DICTIONARY.flush()),
        IEND,
    ),
    refused("with filter 5", IHDR, chunk(b"IDAT", zlib.compress(b"\5" + STREAM[1:])), IEND),
    refused("with filter 255", IHDR, chunk(b"IDAT", zlib.compress(b"\xff" + STREAM[1:])), IEND),
]


# 5. Bombs


BOMB = deflated((bytes(10**6), 200))
"""200 KB that inflate to 200 MB."""

MILLION = deflated((bytes(10**6), 1))

BOMBS = [
    Case(
        "png of 8x8 whose pixels inflate to 200 MB",
        file(ihdr(8, 8, 8, 2), chunk(b"IDAT", BOMB), IEND),
        flat(8, 8, 0, 0, 0),
    ),
    refused("with a profile of 200 MB", IHDR, chunk(b"iCCP", b"icc\0\0" + BOMB), IDAT, IEND),
    refused("with a zTXt of 200 MB", IHDR, chunk(b"zTXt", b"key\0\0" + BOMB), IDAT, IEND),
    refused("with an iTXt of 200 MB", IHDR, chunk(b"iTXt", b"key\0\1\0\0\0" + BOMB), IDAT, IEND),
    refused("with a late zTXt of 200 MB", IHDR, IDAT, chunk(b"zTXt", b"key\0\0" + BOMB), IEND),
    refused("with 70 texts of 1 MB", IHDR, 70 * chunk(b"zTXt", b"key\0\0" + MILLION), IDAT, IEND),
    refused("of 31 megapixels with half a row", ihdr(6200, 5000, 8, 0), IDAT, IEND),
]
