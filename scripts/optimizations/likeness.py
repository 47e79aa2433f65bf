"""How far pictures are from the plain ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SAME_DB = 100.0
"""What stands for the endless PSNR of pictures without any difference."""


def difference(found: NDArray[np.uint8], plain: NDArray[np.uint8]) -> dict[str, float]:
    """`max_diff` in levels of 255, and `psnr_db` over all pictures; both (n, height, width, 3)."""
    apart = found.astype(np.int16) - plain.astype(np.int16)
    squared = float(np.square(apart, dtype=np.float64).mean())
    psnr_db = SAME_DB if squared == 0 else min(SAME_DB, 10 * math.log10(255**2 / squared))
    return {"max_diff": int(np.abs(apart).max()), "psnr_db": psnr_db}
