"""How models trained by flow matching space their noise levels."""

from collections.abc import Mapping
from typing import Any


def size_shift(config: Mapping[str, Any], image_tokens: int, *, max_shift: float) -> float | None:
    """The logarithm of the shift for a picture of so many tokens, as diffusers' pipelines have it.

    None where the scheduler's config has one shift for all sizes. `max_shift` is what the family's
    pipeline takes where the config has none.
    """
    if not config.get("use_dynamic_shifting"):
        return None
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", max_shift)
    slope = (high - low) / (many - few)
    mu: float = image_tokens * slope + (low - slope * few)
    return mu
