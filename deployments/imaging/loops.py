"""The loops over pixels, compiled by Numba: what `kernels.py` calls, with all memory handed in.

Where channels are spelt out instead of looped over, LLVM makes vector instructions of them: 1024 to
512 px takes 0.38 ms instead of 1.7, packing 0.36 instead of 2.3.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deployments.imaging.filters import WEIGHT_BITS

_Function = TypeVar("_Function", bound=Callable[..., Any])

_HALF = 1 << (WEIGHT_BITS - 1)
_UNIT = np.float32(1.0 / (1 << WEIGHT_BITS))


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
def mean(
    lines: NDArray[np.uint8],
    across: int,
    down: int,
    unit: np.float32,
    offset: np.float32,
    sums: NDArray[np.uint32],
    out: NDArray[np.float32],
) -> None:
    """Behind `kernels.resample`, where every target pixel is the mean of `across` x `down`.

    `lines` is (height, width * channels), `sums` one such line of scratch, `out` (channels, ...).
    """
    channels, height, width = out.shape
    for y in range(height):
        for i in range(len(sums)):
            sums[i] = lines[y * down, i]
        for k in range(1, down):
            for i in range(len(sums)):
                sums[i] += lines[y * down + k, i]
        if channels == 3 and across == 1:
            _level_rgb(sums, unit, offset, out[0, y], out[1, y], out[2, y])
        elif channels == 3 and across == 2:
            _halve_rgb(sums, unit, offset, out[0, y], out[1, y], out[2, y])
        else:
            for c in range(channels):
                for x in range(width):
                    total = 0  # of 64 bits: 32 megapixels in one pixel exceed 32
                    for k in range(across):
                        total += sums[(x * across + k) * channels + c]
                    out[c, y, x] = np.float32(total) * unit + offset


@_kernel
def _level_rgb(
    sums: NDArray[np.uint32],
    unit: np.float32,
    offset: np.float32,
    red: NDArray[np.float32],
    green: NDArray[np.float32],
    blue: NDArray[np.float32],
) -> None:
    for x in range(len(red)):
        i = 3 * x
        red[x] = np.float32(sums[i]) * unit + offset
        green[x] = np.float32(sums[i + 1]) * unit + offset
        blue[x] = np.float32(sums[i + 2]) * unit + offset


@_kernel
def _halve_rgb(
    sums: NDArray[np.uint32],
    unit: np.float32,
    offset: np.float32,
    red: NDArray[np.float32],
    green: NDArray[np.float32],
    blue: NDArray[np.float32],
) -> None:
    for x in range(len(red)):
        i = 6 * x
        red[x] = np.float32(np.int32(sums[i]) + np.int32(sums[i + 3])) * unit + offset
        green[x] = np.float32(np.int32(sums[i + 1]) + np.int32(sums[i + 4])) * unit + offset
        blue[x] = np.float32(np.int32(sums[i + 2]) + np.int32(sums[i + 5])) * unit + offset


@_kernel
def resample(
    lines: NDArray[np.uint8],
    column_first: NDArray[np.int32],
    column_weights: NDArray[np.int32],
    row_first: NDArray[np.int32],
    row_weights: NDArray[np.int32],
    scale: np.float32,
    offset: np.float32,
    across: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Behind `kernels.resample`. `lines` is (height, width * channels), `out` planes of zeros.

    `across` is (channels, width of `out`) of scratch.
    """
    channels, height, width = out.shape
    row_taps = row_weights.shape[1]
    lowest = 0  # the first target row that still waits for source rows
    for row in range(row_first[0], row_first[height - 1] + row_taps):
        if channels == 3:
            _across_rgb(lines[row], column_first, column_weights, across)
        else:
            _across(lines[row], column_first, column_weights, across)
        y = lowest
        while y < height and row_first[y] <= row:
            weight = np.float32(row_weights[y, row - row_first[y]])
            complete = row == row_first[y] + row_taps - 1
            for c in range(channels):
                target = out[c, y]
                for x in range(width):
                    target[x] += weight * across[c, x]
                if complete:
                    for x in range(width):
                        value = min(max(target[x] * _UNIT, np.float32(0.0)), np.float32(255.0))
                        target[x] = value * scale + offset
            y += 1
            if complete:
                lowest = y


@_kernel
def _across(
    line: NDArray[np.uint8],
    first: NDArray[np.int32],
    weights: NDArray[np.int32],
    out: NDArray[np.float32],
) -> None:
    channels, width = out.shape
    for c in range(channels):
        for x in range(width):
            total = _HALF
            for k in range(weights.shape[1]):
                total += weights[x, k] * line[(first[x] + k) * channels + c]
            out[c, x] = _level(total)


@_kernel
def _across_rgb(
    line: NDArray[np.uint8],
    first: NDArray[np.int32],
    weights: NDArray[np.int32],
    out: NDArray[np.float32],
) -> None:
    # As `_across`, with the three sums side by side: each weight is read once, and twice as fast.
    for x in range(out.shape[1]):
        red = green = blue = _HALF
        place = first[x] * 3
        for k in range(weights.shape[1]):
            weight = weights[x, k]
            red += weight * line[place]
            green += weight * line[place + 1]
            blue += weight * line[place + 2]
            place += 3
        out[0, x], out[1, x], out[2, x] = _level(red), _level(green), _level(blue)


@_kernel
def _level(total: int) -> np.float32:
    # Pillow rounds and clamps to 8 bits between its two passes. Without the same, the overshoot
    # of a bicubic edge would put results tens of steps apart.
    return np.float32(min(max(total >> WEIGHT_BITS, 0), 255))


@_kernel
def on_white(rgba: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Behind `kernels.on_white`."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            alpha = np.int64(rgba[y, x, 3])
            for c in range(3):
                out[y, x, c] = (rgba[y, x, c] * alpha + 255 * (255 - alpha) + 127) // 255


@_kernel
def luma(rgb: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Behind `kernels.luma`."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            weighted = 19595 * rgb[y, x, 0] + 38470 * rgb[y, x, 1] + 7471 * rgb[y, x, 2]
            out[y, x] = (weighted + 32768) >> 16


@_kernel
def latent_grid(
    mask: NDArray[np.float32], factor: int, most: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Behind `kernels.latent_grid`; `out` is zeros, and `most` scratch as long as a line."""
    for row in range(out.shape[0]):
        for x in range(len(most)):
            most[x] = mask[row * factor, x]
        for k in range(1, factor):
            for x in range(len(most)):
                most[x] = max(most[x], mask[row * factor + k, x])
        for column in range(out.shape[1]):
            for k in range(factor):
                if most[column * factor + k] > 0:
                    out[row, column] = 1


@_kernel
def composite(
    result: NDArray[np.uint8],
    original: NDArray[np.float32],
    mask: NDArray[np.float32],
    out: NDArray[np.uint8],
) -> None:
    """Behind `kernels.composite`; `result` and `out` are (height, width * 3)."""
    for y in range(out.shape[0]):
        red, green, blue = original[0, y], original[1, y], original[2, y]
        paint, painted, line = mask[y], result[y], out[y]
        for x in range(len(paint)):
            i = 3 * x
            line[i] = _blend(paint[x], painted[i], red[x])
            line[i + 1] = _blend(paint[x], painted[i + 1], green[x])
            line[i + 2] = _blend(paint[x], painted[i + 2], blue[x])


@_kernel
def _blend(paint: np.float32, result: np.uint8, original: np.float32) -> np.uint8:
    kept = np.float32(_step(original))
    mixed = paint * np.float32(result) + (np.float32(1.0) - paint) * kept
    return np.uint8(np.int32(mixed + np.float32(0.5)))


@_kernel
def pack(planes: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    """Behind `kernels.pack`; `out` is (height, width * channels)."""
    channels, height, width = planes.shape
    for y in range(height):
        if channels == 3:
            _pack_rgb(planes[0, y], planes[1, y], planes[2, y], out[y])
        else:
            for c in range(channels):
                for x in range(width):
                    out[y, x * channels + c] = _step(planes[c, y, x])


@_kernel
def _pack_rgb(
    red: NDArray[np.float32],
    green: NDArray[np.float32],
    blue: NDArray[np.float32],
    out: NDArray[np.uint8],
) -> None:
    for x in range(len(red)):
        i = 3 * x
        out[i], out[i + 1], out[i + 2] = _step(red[x]), _step(green[x]), _step(blue[x])


@_kernel
def _step(value: np.float32) -> np.uint8:
    # Stays in 32 bits all the way, as the twin does, so that both round alike.
    level = value * np.float32(127.5) + np.float32(127.5)
    level = min(max(level, np.float32(0.0)), np.float32(255.0)) + np.float32(0.5)
    return np.uint8(np.int32(level))
