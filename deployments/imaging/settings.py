"""What may be configured of the imaging replicas."""

import math
from typing import Literal

import msgspec


class ImagingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits on what a client may send to be prepared, and how it is done."""

    max_megapixels: float = 32.0
    """Largest input image or mask, in millions of pixels, read off its header before decoding.

    Decoding takes 10 bytes a pixel for a JPEG or a PNG, 16 for a PNG and 24 for a WebP with
    alpha, and 3 more for the image while its mask is decoded: 860 MB at 32, for each thread of a
    replica.
    """
    max_waiting: int = 16
    """Images that may wait here for a thread, each with the bytes that its client sent; past it one
    is answered with `Requeue`, hence with 429 once every replica has so many."""
    filter: Literal["auto", "area", "bilinear", "bicubic", "lanczos"] = "auto"
    """How input images are resized. `auto` takes `area` for whole multiples and from 4x down on,
    and else `bicubic`."""

    def __post_init__(self) -> None:
        """Refuses what cannot work, with the field, the value and the cure."""
        if not 0 < self.max_megapixels < math.inf:
            raise ValueError(
                f"max_megapixels is {self.max_megapixels:g}: it must be a finite number above 0"
            )
        if self.max_waiting < 0:
            raise ValueError(f"max_waiting is {self.max_waiting}: it must not be negative")
