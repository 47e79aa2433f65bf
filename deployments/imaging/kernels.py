"""What is done to pixels; `loops.py` compiles it, `twins.py` says the same in plain NumPy.

Every kernel runs in one thread without the GIL, so a pool of threads uses every core. None is
`parallel=True`: Numba's own pool is not safe to enter from two threads at once. Arrays are plain
C-contiguous NumPy; what arrives otherwise, or in another floating type, is copied.
"""

import threading
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from deployments.imaging import loops
from deployments.imaging.filters import Taps, taps

_Scalar = TypeVar("_Scalar", bound=np.generic)

_scratch = threading.local()


def resample(
    pixels: NDArray[np.uint8], columns: Taps, rows: Taps, *, scale: float, offset: float
) -> NDArray[np.float32]:
    """Resizes, normalises and turns to planes in one pass.

    Takes (height, width, channels) and gives (channels, len(rows), len(columns)) of
    `value * scale + offset`, where value is 0..255 and at most one step from Pillow's.
    """
    height, width, channels = pixels.shape
    out = np.zeros((channels, len(rows.first), len(columns.first)), np.float32)
    lines = _readonly(pixels, np.uint8).reshape(height, width * channels)
    if columns.mean_of and rows.mean_of:
        sums = _buffer("sums", width * channels, np.uint32)
        unit = np.float32(scale / (columns.mean_of * rows.mean_of))
        loops.mean(lines, columns.mean_of, rows.mean_of, unit, np.float32(offset), sums, out)
    else:
        across = _buffer("across", out.shape[0] * out.shape[2], np.float32)
        loops.resample(
            lines, columns.first, columns.weights, rows.first, rows.weights,
            np.float32(scale), np.float32(offset), across.reshape(out.shape[0], out.shape[2]), out,
        )  # fmt: skip
    return out


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lays (height, width, 4) with straight alpha on white: (height, width, 3)."""
    out = np.empty((*rgba.shape[:2], 3), np.uint8)
    loops.on_white(_readonly(rgba, np.uint8), out)
    return out


def luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The Rec. 601 grey (height, width) of (height, width, 3 or 4), exactly Pillow's mode L."""
    out = np.empty(rgb.shape[:2], np.uint8)
    loops.luma(_readonly(rgb, np.uint8), out)
    return out


def latent_grid(mask: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Brings a mask (height, width) to (height / factor, width / factor).

    A cell is 1 where any of its factor x factor pixels is above 0, else 0. Both sides must be
    multiples of `factor`.
    """
    out = np.zeros((mask.shape[0] // factor, mask.shape[1] // factor), np.float32)
    most = _buffer("most", mask.shape[1], np.float32)
    loops.latent_grid(_readonly(mask, np.float32), factor, most, out)
    return out


def composite(
    result: NDArray[np.uint8], original: NDArray[np.float32], mask: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Puts what was not to be painted back over a result, (height, width, 3).

    `original` is (3, height, width) in -1..1, `mask` (height, width) in 0..1. Where the mask is 0
    the answer is `pack(original)` exactly, where it is 1 the result exactly; between, a blend.
    """
    out = np.empty_like(result, order="C")
    height, width, _ = result.shape
    loops.composite(
        _readonly(result, np.uint8).reshape(height, width * 3),
        _readonly(original, np.float32),
        _readonly(mask, np.float32),
        out.reshape(height, width * 3),
    )
    return out


def pack(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Finite (channels, height, width) in -1..1 to (height, width, channels) in 0..255.

    Rounds to the nearest step, half upwards, and clamps what lies outside.
    """
    channels, height, width = planes.shape
    out = np.empty((height, width, channels), np.uint8)
    loops.pack(_readonly(planes, np.float32), out.reshape(height, width * channels))
    return out


def warm_up() -> None:
    """Compiles every kernel (or loads it from Numba's cache), so that no request waits for it."""
    pixels = np.zeros((2, 2, 3), np.uint8)
    for name in ("area", "bicubic"):
        table = taps(2, 2, name)
        planes = resample(pixels, table, table, scale=1 / 127.5, offset=-1.0)
    on_white(np.zeros((2, 2, 4), np.uint8))
    luma(pixels)
    latent_grid(planes[0], 2)
    composite(pack(planes), planes, planes[0])


def _readonly(array: NDArray[Any], dtype: type[_Scalar]) -> NDArray[_Scalar]:
    # Ray hands out read-only arrays, and Numba compiles anew for them: seconds inside a request.
    # So every input goes in read-only, and one compiled version serves all.
    view = np.ascontiguousarray(array, dtype).view()
    view.flags.writeable = False
    return view


def _buffer(name: str, length: int, dtype: type[_Scalar]) -> NDArray[_Scalar]:
    """This thread's own, made anew only when it is too short."""
    held: NDArray[_Scalar] | None = getattr(_scratch, name, None)
    if held is None or len(held) < length:
        held = np.empty(length, dtype)
        setattr(_scratch, name, held)
    return held[:length]
