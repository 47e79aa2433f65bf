"""Writes PNG that Pillow does not: any depth, interlaced, any filter, any chunk anywhere."""

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"

ADAM7 = [
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
]
"""Of each pass the first column and row, and the steps to the next."""


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


IEND = chunk(b"IEND", b"")


def ihdr(width: int, height: int, depth: int, colour_type: int, *methods: int) -> bytes:
    """`methods` are of compression, filtering and interlacing."""
    compression, filtering, interlacing = methods or (0, 0, 0)
    body = (width, height, depth, colour_type, compression, filtering, interlacing)
    return chunk(b"IHDR", struct.pack(">IIBBBBB", *body))


def png(
    samples: NDArray[Any],
    colour_type: int,
    depth: int,
    *before: bytes,
    after: bytes = b"",
    interlaced: bool = False,
    filters: Sequence[int] = (0,),
) -> bytes:
    """`samples`: (height, width, channels), as they stand in the file. Chunks before and after."""
    height, width, _ = samples.shape
    stream = scanned(samples, depth, interlaced=interlaced, filters=filters)
    header = ihdr(width, height, depth, colour_type, 0, 0, int(interlaced))
    pixels = chunk(b"IDAT", zlib.compress(stream))
    return SIGNATURE + header + b"".join(before) + pixels + after + IEND


def scanned(
    samples: NDArray[Any], depth: int, *, interlaced: bool = False, filters: Sequence[int] = (0,)
) -> bytes:
    """The scan lines of all passes, each with its filter's number; filters take turns."""
    passes = [samples]
    if interlaced:
        passes = [samples[y::down, x::right] for x, y, right, down in ADAM7]
    step = max(1, samples.shape[2] * depth // 8)
    return b"".join(_filtered(_packed(part, depth), step, filters) for part in passes if part.size)


def _packed(samples: NDArray[Any], depth: int) -> NDArray[np.uint8]:
    height = len(samples)
    if depth == 16:
        return np.ascontiguousarray(samples, ">u2").view(np.uint8).reshape(height, -1)
    bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
    return np.packbits(bits.reshape(height, -1), axis=1)


def _filtered(lines: NDArray[np.uint8], step: int, filters: Sequence[int]) -> bytes:
    raw = lines.astype(np.int16)
    left, up, corner = (np.zeros_like(raw) for _ in range(3))
    left[:, step:] = raw[:, :-step]
    up[1:] = raw[:-1]
    corner[1:, step:] = raw[:-1, :-step]
    predictors = [0 * raw, left, up, (left + up) // 2, _paeth(left, up, corner)]
    turns = np.resize(np.asarray(filters), len(raw))
    residuals = raw - np.stack(predictors)[turns, np.arange(len(raw))]
    return np.hstack([turns[:, None], residuals % 256]).astype(np.uint8).tobytes()


def _paeth(
    left: NDArray[np.int16], up: NDArray[np.int16], corner: NDArray[np.int16]
) -> NDArray[np.int16]:
    estimate = left + up - corner
    of_left, of_up, of_corner = (abs(estimate - each) for each in (left, up, corner))
    nearest = np.where(of_up <= of_corner, up, corner)
    return np.where((of_left <= of_up) & (of_left <= of_corner), left, nearest)


def deflated(*runs: tuple[bytes, int]) -> bytes:
    """A zlib stream of each run's bytes so many times over, made in the time of one of them."""
    stream, checksum = b"\x78\x9c", 1
    for part, times in runs:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        # Nothing refers to what stands before a full flush, so its output can be repeated.
        stream += (packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH)) * times
        for _ in range(times):
            checksum = zlib.adler32(part, checksum)
    return stream + b"\x03\x00" + struct.pack(">I", checksum)
