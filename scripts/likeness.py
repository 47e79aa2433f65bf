"""Whether two pictures are the same one, but for rounding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WRONG_LEVELS = 4.0
"""Mean difference, of 255, from which a picture is another one. Rounding moves it by 0.1."""


def is_other_picture(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> bool:
    """Both (height, width, 3)."""
    difference = found.astype(np.int16) - expected.astype(np.int16)
    return bool(np.abs(difference).mean() > WRONG_LEVELS)
