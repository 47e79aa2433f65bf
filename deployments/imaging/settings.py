"""What may be configured of the imaging replicas."""

import math

import msgspec


class ImagingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits on what a client may send to be prepared."""

    max_megapixels: float = 32.0
    """Largest input image or mask, in millions of pixels, read off its header before decoding.

    Decoding takes 10 bytes a pixel for a JPEG or a PNG, 16 for a PNG and 24 for a WebP with
    alpha: 770 MB at 32, for each thread of a replica.
    """

    def __post_init__(self) -> None:
        """Refuses what cannot work, with the field, the value and the cure."""
        if not 0 < self.max_megapixels < math.inf:
            raise ValueError(
                f"max_megapixels is {self.max_megapixels:g}: it must be a finite number above 0"
            )
