"""A CPU replica that makes files of the arrays it is sent: what encoding elsewhere would be."""

from __future__ import annotations

import asyncio

import numpy as np
from numpy.typing import NDArray

from deployments.imaging.codecs import encode


class Encoder:
    """Like the imaging replica, it works on a thread."""

    async def encode(self, rgb: NDArray[np.uint8]) -> bytes:
        """A PNG of (height, width, 3)."""
        return await asyncio.to_thread(encode, rgb, "png", 100)
