"""The loops over pixels, compiled by Numba; `twins.py` says the same in plain NumPy.

Every kernel runs in one thread without the GIL, so a pool of threads uses every core. None is
`parallel=True`: Numba's own pool is not safe to enter from two threads at once. Arrays are plain
C-contiguous NumPy; what arrives otherwise is copied.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deployments.imaging.filters import WEIGHT_BITS, Taps, taps

_Scalar = TypeVar("_Scalar", bound=np.generic)
_Function = TypeVar("_Function", bound=Callable[..., Any])

_HALF = np.int32(1 << (WEIGHT_BITS - 1))
_UNIT = np.float32(1.0 / (1 << WEIGHT_BITS))


def resample(
    pixels: NDArray[np.uint8], columns: Taps, rows: Taps, *, scale: float, offset: float
) -> NDArray[np.float32]:
    """Resizes, normalises and turns to planes in one pass.

    Takes (height, width, channels) and gives (channels, len(rows), len(columns)) of
    `value * scale + offset`, where value is 0..255 and within half a step of Pillow's.
    """
    shape = (pixels.shape[2], len(rows.first), len(columns.first))
    out = np.zeros(shape, np.float32)
    _resample(
        _readonly(pixels), columns.first, columns.weights, rows.first, rows.weights,
        np.float32(scale), np.float32(offset), out,
    )  # fmt: skip
    return out


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lays (height, width, 4) with straight alpha on white: (height, width, 3)."""
    out = np.empty((*rgba.shape[:2], 3), np.uint8)
    _on_white(_readonly(rgba), out)
    return out


def luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The Rec. 601 grey (height, width) of (height, width, 3 or 4), exactly Pillow's mode L."""
    out = np.empty(rgb.shape[:2], np.uint8)
    _luma(_readonly(rgb), out)
    return out


def latent_grid(mask: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Brings a mask (height, width) to (height / factor, width / factor).

    A cell is 1 where any of its factor x factor pixels is above 0, else 0. Both sides must be
    multiples of `factor`.
    """
    out = np.zeros((mask.shape[0] // factor, mask.shape[1] // factor), np.float32)
    _latent_grid(_readonly(mask), factor, out)
    return out


def composite(
    result: NDArray[np.uint8], original: NDArray[np.float32], mask: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Puts what was not to be painted back over a result, (height, width, 3).

    `original` is (3, height, width) in -1..1, `mask` (height, width) in 0..1. Where the mask is 0
    the answer is `pack(original)` exactly, where it is 1 the result exactly; between, a blend.
    """
    out = np.empty_like(result, order="C")
    _composite(_readonly(result), _readonly(original), _readonly(mask), out)
    return out


def pack(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Finite (channels, height, width) in -1..1 to (height, width, channels) in 0..255.

    Rounds to the nearest step, half upwards, and clamps what lies outside.
    """
    channels, height, width = planes.shape
    out = np.empty((height, width, channels), np.uint8)
    _pack(_readonly(planes), out)
    return out


def warm_up() -> None:
    """Compiles every kernel (or loads it from Numba's cache), so that no request waits for it."""
    pixels = np.zeros((2, 2, 3), np.uint8)
    identity = taps(2, 2, "area")
    planes = resample(pixels, identity, identity, scale=1 / 127.5, offset=-1.0)
    on_white(np.zeros((2, 2, 4), np.uint8))
    luma(pixels)
    latent_grid(planes[0], 2)
    composite(pack(planes), planes, planes[0])


def _readonly(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    # Ray hands out read-only arrays, and Numba compiles anew for them: seconds inside a request.
    # So every input goes in read-only, and one compiled version serves all.
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _kernel(function: _Function) -> _Function:
    return cast(_Function, njit(nogil=True, cache=_CACHE_ON_DISK)(function))


def _cache_on_disk() -> bool:
    # Numba caches in NUMBA_CACHE_DIR, beside this file or in the user's cache folder. Where none
    # can be written (a read-only container) it refuses to decorate at all: then every start
    # compiles anew.
    try:
        njit(cache=True)(_cache_on_disk)
    except RuntimeError:
        return False
    return True


_CACHE_ON_DISK = _cache_on_disk()


@_kernel
def _resample(
    pixels: NDArray[np.uint8],
    column_first: NDArray[np.int32],
    column_weights: NDArray[np.int32],
    row_first: NDArray[np.int32],
    row_weights: NDArray[np.int32],
    scale: np.float32,
    offset: np.float32,
    out: NDArray[np.float32],
) -> None:
    channels, height, width = out.shape
    line = np.empty((channels, width), np.float32)
    row_taps = row_weights.shape[1]
    lowest = 0  # the first target row that still waits for source rows
    for row in range(pixels.shape[0]):
        _resample_row(pixels[row], column_first, column_weights, line)
        y = lowest
        while y < height and row_first[y] <= row:
            weight = np.float32(row_weights[y, row - row_first[y]])
            complete = row == row_first[y] + row_taps - 1
            for c in range(channels):
                target = out[c, y]
                for x in range(width):
                    target[x] += weight * line[c, x]
                if complete:
                    for x in range(width):
                        value = min(max(target[x] * _UNIT, np.float32(0.0)), np.float32(255.0))
                        target[x] = value * scale + offset
            y += 1
            if complete:
                lowest = y


@_kernel
def _resample_row(
    source: NDArray[np.uint8],
    first: NDArray[np.int32],
    weights: NDArray[np.int32],
    line: NDArray[np.float32],
) -> None:
    # Pillow rounds and clamps to 8 bits between its two passes. Without the same, the overshoot
    # of a bicubic edge would put results tens of steps apart.
    channels, width = line.shape
    for c in range(channels):
        for x in range(width):
            total = _HALF
            for k in range(weights.shape[1]):
                # Numba widens to 64 bits at every step; cast back, 32 are enough.
                product = np.int32(weights[x, k] * np.int32(source[first[x] + k, c]))
                total = np.int32(total + product)
            line[c, x] = np.float32(min(max(int(total >> WEIGHT_BITS), 0), 255))


@_kernel
def _on_white(rgba: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            alpha = np.int64(rgba[y, x, 3])
            for c in range(3):
                out[y, x, c] = (rgba[y, x, c] * alpha + 255 * (255 - alpha) + 127) // 255


@_kernel
def _luma(rgb: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            weighted = 19595 * rgb[y, x, 0] + 38470 * rgb[y, x, 1] + 7471 * rgb[y, x, 2]
            out[y, x] = (weighted + 32768) >> 16


@_kernel
def _latent_grid(mask: NDArray[np.float32], factor: int, out: NDArray[np.float32]) -> None:
    for y in range(out.shape[0] * factor):
        for x in range(out.shape[1] * factor):
            if mask[y, x] > 0:
                out[y // factor, x // factor] = 1


@_kernel
def _composite(
    result: NDArray[np.uint8],
    original: NDArray[np.float32],
    mask: NDArray[np.float32],
    out: NDArray[np.uint8],
) -> None:
    one = np.float32(1.0)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            paint = mask[y, x]
            for c in range(out.shape[2]):
                kept = _step(original[c, y, x])
                blend = paint * np.float32(result[y, x, c]) + (one - paint) * np.float32(kept)
                out[y, x, c] = np.uint8(blend + np.float32(0.5))


@_kernel
def _pack(planes: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    channels, height, width = planes.shape
    for y in range(height):
        for c in range(channels):
            for x in range(width):
                out[y, x, c] = _step(planes[c, y, x])


@_kernel
def _step(value: np.float32) -> np.uint8:
    # Stays in 32 bits all the way, as the twin does, so that both round alike.
    level = value * np.float32(127.5) + np.float32(127.5)
    return np.uint8(min(max(level, np.float32(0.0)), np.float32(255.0)) + np.float32(0.5))
