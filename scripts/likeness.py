"""How alike pictures are."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

WRONG_LEVELS = 4.0
"""Mean difference, of 255, from which a picture is another one. Rounding moves it by 0.1."""
SAME_DB = 100.0
"""What stands for the endless PSNR of pictures without any difference."""


def is_other_picture(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> bool:
    """Whether they differ by more than rounding; both (height, width, 3)."""
    return bool(np.abs(_apart(found, expected)).mean() > WRONG_LEVELS)


def difference(found: NDArray[np.uint8], plain: NDArray[np.uint8]) -> dict[str, float]:
    """`max_diff` in levels of 255, and `psnr_db` over all pictures; both (n, height, width, 3)."""
    apart = _apart(found, plain)
    squared = float(np.square(apart, dtype=np.float64).mean())
    psnr_db = SAME_DB if squared == 0 else min(SAME_DB, 10 * math.log10(255**2 / squared))
    return {"max_diff": int(np.abs(apart).max()), "psnr_db": psnr_db}


def _apart(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> NDArray[np.int16]:
    return found.astype(np.int16) - expected.astype(np.int16)
