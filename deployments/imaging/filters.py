"""Resampling filters as tables: which source pixels make a target pixel, and by how much.

The tables are Pillow's, to the last bit: same windows, same 22-bit fixed-point weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deployments.requests import ResizeMode

Filter = Literal["area", "bilinear", "bicubic", "lanczos"]

_Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]

WEIGHT_BITS = 22
"""Weights are integers in units of 2**-22: 8 bits of pixel, 2 of overshoot, and the rest."""


@dataclass(frozen=True, slots=True)
class Taps:
    """How one axis is resampled: target pixel i is `sum(weights[i] * source[first[i] + k])`."""

    first: NDArray[np.int32]
    """(target,); never falls, and `first[i] + taps` is at most the source's size."""
    weights: NDArray[np.int32]
    """(target, taps), in units of 2**-22; a row sums to about 2**22."""
    mean_of: int | None = None
    """Set where target pixel i is the plain mean of this many source pixels from the i-th such
    group on: what a faster kernel can do."""


def filter_for(source: int, target: int) -> Filter:
    """The filter that takes an axis of `source` pixels to `target` pixels best.

    Area where it is exact (the same size, whole multiples) or as good (from 4x down on).
    In between its windows are uneven: a zone plate loses 5 dB against bicubic at 1024 to 768 px
    and 7 dB at 1000 to 400. Bicubic is within 0.2 dB of Lanczos there, with 2/3 of its taps.
    """
    return "area" if source % target == 0 or source >= 4 * target else "bicubic"


@lru_cache(maxsize=16)
def taps(source: int, target: int, name: Filter, scaled: int | None = None) -> Taps:
    """The table for one axis, sizes in pixels; antialiased, as the window grows with scale.

    With `scaled` the axis becomes that long, and its middle is laid on the target: what is beyond
    it is cut off; what the target has more repeats the edge.

    Its arrays are read-only, since every caller with the same sizes gets the same ones.
    """
    curve, reach = _CURVES[name]
    length = target if scaled is None else scaled
    # Only the pixels that are seen: a line that covers a square is as long as its side squared.
    pixel = np.clip(np.arange(target) + length // 2 - target // 2, 0, length - 1)
    centre = np.asarray((pixel + 0.5) * (source / length), np.float64)
    mean_of = None
    if name == "area" and length == target and source % target == 0:
        mean_of = source // target
    return _windowed(source, centre, max(source / length, 1.0), reach, curve, mean_of)


@lru_cache(maxsize=8)
def blur(size: int, sigma: float) -> Taps:
    """The table of a Gaussian blur along an axis of `size` pixels, which keeps its size.

    `sigma` is in pixels; the window ends at 2.5 sigma, as AUTOMATIC1111's mask blur does. Up to
    0.2 that is one pixel, which stays as it is.
    """
    centre = np.arange(size, dtype=np.float64) + 0.5
    return _windowed(size, centre, max(sigma, 0.1), _BLUR_REACH, _gaussian, None)


def scaled_size(
    source: tuple[int, int], target: tuple[int, int], mode: ResizeMode
) -> tuple[int, int]:
    """The size to scale a picture to before it is laid on the target; all (width, height).

    As in AUTOMATIC1111: "stretch" changes its proportions, "crop" covers the target, "pad" fits
    into it.
    """
    (width, height), (to_width, to_height) = source, target
    if mode == "stretch":
        return target
    is_wider = to_width * height > to_height * width
    if is_wider == (mode == "crop"):
        return to_width, max(1, height * to_width // width)
    return max(1, width * to_height // height), to_height


def _windowed(
    source: int,
    centre: NDArray[np.float64],
    stretch: float,
    reach: float,
    curve: _Curve,
    mean_of: int | None,
) -> Taps:
    begin = np.maximum((centre - reach * stretch + 0.5).astype(np.int64), 0)
    end = np.minimum((centre + reach * stretch + 0.5).astype(np.int64), source)
    length = int((end - begin).max())
    # Every window gets the same length; at the far edge it moves left instead of past the end.
    first = np.minimum(begin, source - length)
    pixel = first[:, None] + np.arange(length)
    weights = curve((pixel - centre[:, None] + 0.5) * (1.0 / stretch))
    weights *= (pixel >= begin[:, None]) & (pixel < end[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    fixed = weights * (1 << WEIGHT_BITS)
    rounded = np.trunc(fixed + np.copysign(0.5, fixed)).astype(np.int32)
    table = Taps(first.astype(np.int32), rounded, mean_of)
    table.first.flags.writeable = False
    table.weights.flags.writeable = False
    return table


def _area(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _bilinear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # Keys' cubic with a = -0.5, as in Pillow; OpenCV takes -0.75.
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where((x >= -3) & (x < 3), np.sinc(x) * np.sinc(x / 3), 0.0)


def _gaussian(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-0.5 * x * x)


_BLUR_REACH = 2.5
_CURVES: dict[Filter, tuple[_Curve, float]] = {
    "area": (_area, 0.5),
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
"""Each filter's curve, and how far it reaches from its centre, in pixels of the coarser side."""
