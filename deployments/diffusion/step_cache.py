"""What a lane's denoiser computed at an earlier call and may use again. Lossy, and off by default.

What is kept belongs to the row and not to the batch: whether a lane computes anew depends on the
row alone, so that its picture is the same whatever runs beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(eq=False, slots=True)
class LaneCache:
    """One lane's."""

    kept: tuple[torch.Tensor, ...] | None = None
    """Nothing before its first call."""
    staged: tuple[torch.Tensor, ...] | None = None
    """Of a step that may still fail, and is then repeated from unchanged state."""

    def commit(self) -> None:
        """The step is done."""
        if self.staged is not None:
            self.kept, self.staged = self.staged, None


class CachedDenoise(Protocol):
    """As a family's `denoise`, for lanes that keep what they computed."""

    def __call__(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
        *,
        caches: Sequence[LaneCache],
        calls: Sequence[int],
    ) -> torch.Tensor:
        """Each lane's cache, and the number of calls that its row has done."""


def kept_of(caches: Sequence[LaneCache], place: int) -> torch.Tensor:
    """The tensors at one place of what these lanes keep, stacked."""
    return torch.stack([cache.kept[place] for cache in caches if cache.kept is not None])
