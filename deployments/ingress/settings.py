"""What an operator may set for the ingress."""

import math

import msgspec


class IngressSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits that hold before any model is asked. Checked once, when they are made."""

    max_body_mb: float = 60.0
    """Largest request body, in megabytes of 1,000,000 bytes. OpenAI allows images of 50 MB."""
    max_megapixels: float = 32.0
    """Largest input image or mask, by its header, before a pixel of it is decoded."""

    def __post_init__(self) -> None:
        for name, example in (("max_body_mb", 60.0), ("max_megapixels", 32.0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(
                    f"{name} must be a finite number above 0, got {value}; "
                    f"set it to, say, {example}"
                )

    @property
    def max_body_bytes(self) -> int:
        """The body limit in bytes."""
        return int(self.max_body_mb * 1_000_000)
