"""The kernels that go from arrays to arrays, against plain NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.imaging import kernels, twins
from imaging.pictures import flat, photo
from imaging.turns import Effort, Figures, medians_ms

LATENT_FACTOR = 8

Rivals = Mapping[str, Callable[[], NDArray[Any]]]


def measure(side: int, effort: Effort) -> dict[str, Figures]:
    """Every kernel, at this size."""
    return {f"{name}_{side}": medians_ms(each, effort) for name, each in operations(side).items()}


def operations(side: int) -> dict[str, Rivals]:
    """Operation -> rival -> its call. `numpy` is the twin, but where there is a plainer way."""
    rgb, result = photo(side), flat(side)
    planes = _planes(rgb)
    # Paint fades in from left to right, so that a blend is to be made nearly everywhere.
    mask = np.tile(np.linspace(0, 1, side, dtype=np.float32), (side, 1))
    rgba = np.dstack([rgb, np.rint(mask * 255).astype(np.uint8)])
    return {
        "pack_uint8": {
            "ours": lambda: kernels.pack(planes),
            "numpy": lambda: _plain_pack(planes),
            "twin": lambda: twins.pack(planes),
        },
        "composite": {
            "ours": lambda: kernels.composite(result, planes, mask),
            "numpy": lambda: twins.composite(result, planes, mask),
        },
        "luma": {
            "ours": lambda: kernels.luma(rgb),
            "numpy": lambda: twins.luma(rgb),
        },
        "on_white": {
            "ours": lambda: kernels.on_white(rgba),
            "numpy": lambda: twins.on_white(rgba),
        },
        "latent_grid": {
            "ours": lambda: kernels.latent_grid(mask, LATENT_FACTOR),
            "numpy": lambda: twins.latent_grid(mask, LATENT_FACTOR),
        },
    }


def _planes(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.ascontiguousarray(rgb.transpose(2, 0, 1) / 127.5 - 1, np.float32)


def _plain_pack(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    level = (planes * 127.5 + 127.5).clip(0, 255) + 0.5
    return np.ascontiguousarray(level.astype(np.uint8).transpose(1, 2, 0))
