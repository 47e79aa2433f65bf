"""Pictures to measure with, the same ones every time: (side, side, 3), 8 bits."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

CELLS = 12
"""Along a side: knots of the smooth structure."""
NOISE_SIGMA = 2.0
"""Of 255 steps: a camera's at low sensitivity."""


def photo(side: int) -> NDArray[np.uint8]:
    """Like a photograph: smooth structure, and noise in every pixel."""
    noise = np.random.default_rng(1).normal(0.0, NOISE_SIGMA, (side, side, 3))
    return _levels(_structure(side) + noise)


def smooth(side: int) -> NDArray[np.uint8]:
    """The structure of `photo` without its noise."""
    return _levels(_structure(side))


def flat(side: int) -> NDArray[np.uint8]:
    """As a drawing is: a house on a meadow under the sky, each of one colour."""
    pixels = np.full((side, side, 3), (120, 180, 240), np.uint8)
    pixels[side * 2 // 3 :] = (90, 160, 70)
    pixels[side // 2 : side * 3 // 4, side // 3 : side * 2 // 3] = (200, 60, 50)
    return pixels


def _structure(side: int) -> NDArray[np.float64]:
    knots = np.random.default_rng(0).uniform(40.0, 215.0, (CELLS, CELLS, 3))
    return np.asarray(cv2.resize(knots, (side, side), interpolation=cv2.INTER_CUBIC), np.float64)


def _levels(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
