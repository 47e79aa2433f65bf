"""A picture of the embedded model."""

from __future__ import annotations

import functools

import numpy as np
from landscapes import folder
from numpy.typing import NDArray
from PIL import Image

from deployments.diffusion.model_files import EMBEDDED

PROMPT = "a red house on snowy hills at night"


def embedded(side: int) -> NDArray[np.uint8]:
    """(side, side, 3). The model makes 256 px: Pillow's Lanczos brings it to `side`."""
    picture = Image.fromarray(_generated())
    return np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS))


@functools.cache
def _generated() -> NDArray[np.uint8]:
    [picture] = folder.generate(
        folder.load(EMBEDDED),
        [PROMPT],
        [0],
        steps=folder.DEFAULT_STEPS,
        guidance=folder.DEFAULT_GUIDANCE,
    )
    generated: NDArray[np.uint8] = picture
    return generated
