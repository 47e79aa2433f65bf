"""From decoded pixels to the planes that a model takes: resized, normalised, channels first.

Of OpenCV's filters only INTER_AREA is antialiased: the others look at 2, 4 or 8 pixels of an axis
however much it shrinks, so they do less work, and less well, than ours and Pillow's.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployments.imaging import kernels, twins
from deployments.imaging.filters import Filter, taps
from imaging.pictures import photo
from imaging.turns import Effort, Figures, medians_ms

PILLOW: dict[Filter, Image.Resampling] = {
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
OPENCV: dict[Filter, int] = {
    "area": cv2.INTER_AREA,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}
ENLARGING: tuple[Filter, ...] = ("bicubic", "lanczos")
SCALE, OFFSET = 1 / 127.5, -1.0
"""From 0..255 to -1..1."""


def measure(side: int, effort: Effort) -> dict[str, Figures]:
    """Every filter from `side` to half of it, and those for enlarging from half to `side`."""
    half = side // 2
    whole, small = photo(side), photo(half)
    found = {
        f"prepare_{name}_{side}_{half}": medians_ms(rivals(whole, half, name), effort)
        for name in PILLOW
    }
    for name in ENLARGING:
        found[f"prepare_{name}_{half}_{side}"] = medians_ms(rivals(small, side, name), effort)
    return found


def rivals(
    pixels: NDArray[np.uint8], target: int, name: Filter
) -> dict[str, Callable[[], NDArray[np.float32]]]:
    """Calls that make (3, target, target) of square `pixels`; each starts from what it decodes to.

    `numpy` is the kernel's twin.
    """
    image, side = Image.fromarray(pixels), pixels.shape[0]

    def ours() -> NDArray[np.float32]:
        table = taps(side, target, name)
        return kernels.resample(pixels, table, table, scale=SCALE, offset=OFFSET)

    def pillow_numpy() -> NDArray[np.float32]:
        return _normalised(np.asarray(image.resize((target, target), PILLOW[name])))

    def opencv_numpy() -> NDArray[np.float32]:
        resized = cv2.resize(pixels, (target, target), interpolation=OPENCV[name])
        return _normalised(np.asarray(resized, np.uint8))

    def twin() -> NDArray[np.float32]:
        table = taps(side, target, name)
        return twins.resample(pixels, table, table, scale=SCALE, offset=OFFSET)

    return {
        "ours": ours,
        "pillow_numpy": pillow_numpy,
        "opencv_numpy": opencv_numpy,
        "numpy": twin,
    }


def _normalised(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    planes = pixels.astype(np.float32) / 127.5 - 1
    return np.ascontiguousarray(planes.transpose(2, 0, 1), np.float32)
