"""What a denoiser may keep of a lane from one step to the next. It knows no model.

Rows of a batch are at different steps, join and leave: so what is kept belongs to a lane and not to
a batch, and whether it is used again is decided for each lane by its own row alone. A picture is
then the same whoever shares the batch.
"""

from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary

import torch

from deployments.diffusion.families.family import Conditioning
from deployments.diffusion.run import Run

T = TypeVar("T")


class Lane(NamedTuple):
    """Whose lane it is."""

    run: Run
    is_second: bool
    """The one without the prompt."""


class StepCache(Protocol):
    """A denoiser that does less than all of its work where it can."""

    def denoise(
        self,
        lanes: Sequence[Lane],
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
    ) -> torch.Tensor:
        """As `Family.denoise`, with a `Lane` for each of the latents."""


class LaneMemory(Generic[T]):
    """What lanes left behind, for as long as their runs have calls to come.

    A step that failed and is repeated finds what it left itself, which is as good as new.
    """

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Run, dict[bool, T]] = WeakKeyDictionary()

    def get(self, lane: Lane) -> T | None:
        """None if it has left nothing."""
        return self._kept.get(lane.run, {}).get(lane.is_second)

    def keep(self, lane: Lane, left: T) -> None:
        """For its next call."""
        self._kept.setdefault(lane.run, {})[lane.is_second] = left

    def forget_finished(self, lanes: Sequence[Lane]) -> None:
        """Of these, the ones whose last call this was."""
        for lane in lanes:
            if lane.run.calls_left <= 1:
                self._kept.pop(lane.run, None)
