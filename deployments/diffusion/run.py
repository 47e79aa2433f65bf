"""A row on its way through the engine."""

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from deployments.diffusion.noise import RowNoise
from deployments.diffusion.sampling import StepTable
from deployments.requests import ImageResult, PreparedImage, Row


class BatchKey(NamedTuple):
    """What rows must agree on to share a forward. Nothing else need agree."""

    latent_height: int
    latent_width: int


def answer(future: Future[ImageResult], outcome: ImageResult | Exception) -> None:
    """The row's one answer. A future that was cancelled or is answered already keeps its state."""
    with suppress(InvalidStateError):
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


@dataclass(slots=True, eq=False)
class Run:
    """A row, what its seed and scheduler settled beforehand, and how far it has come.

    The future is the row's only tie to whoever waits for it: cancelling it takes the row out of
    the engine before its next model call.
    """

    row: Row
    prepared: PreparedImage | None
    key: BatchKey
    table: StepTable
    area: float
    """Latent cells, in units of the native size: what one lane costs, and takes of the memory."""
    submitted_s: float
    future: Future[ImageResult]
    noise: RowNoise = field(init=False)
    """Drawn once the queue has room."""
    started_s: float = 0.0
    call: int = 0
    """Model calls done."""

    @property
    def guided(self) -> bool:
        """Whether guidance is on: then the row takes a second, unconditional lane."""
        return self.row.guidance_scale > 1

    @property
    def lanes(self) -> int:
        """Lanes of the forward that the row takes."""
        return 2 if self.guided else 1

    @property
    def weight(self) -> float:
        """What the row takes of the capacity, in lanes of the native size; small ones take one."""
        return self.lanes * max(self.area, 1.0)

    @property
    def calls_left(self) -> int:
        """Model calls still to do."""
        return self.table.calls - self.call

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the row any more: it was cancelled, or has failed."""
        return self.future.done()
