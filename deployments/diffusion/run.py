"""A row on its way through the engine."""

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from deployments.diffusion.adapters.weights import NO_ADAPTERS, AdapterSet
from deployments.diffusion.noise import RowNoise
from deployments.diffusion.prompts import RowText
from deployments.diffusion.sampling import StepTable
from deployments.requests import (
    AdapterUse,
    ImageResult,
    Phase,
    PreparedImage,
    Priority,
    Progress,
    Row,
)

PhaseName = Literal["queue", "steps", "decode", "encode"]


class BatchKey(NamedTuple):
    """What rows must agree on to share a forward. Nothing else need agree."""

    latent_height: int
    latent_width: int
    text_chunks: int
    adapters: tuple[AdapterUse, ...] = ()
    """Those that change the denoiser; one that changes text encoders alone asks nothing of it."""

    def at_any_scale(self) -> "BatchKey":
        """The same for all scales: neither memory nor the time of a step depends on them."""
        if not self.adapters:
            return self
        return self._replace(adapters=tuple(AdapterUse(use.name, 1.0) for use in self.adapters))


def answer(future: Future[ImageResult], outcome: ImageResult | Exception) -> None:
    """A row's one answer. A future that was cancelled or is answered already keeps its state."""
    with suppress(InvalidStateError):
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


@dataclass(frozen=True, slots=True)
class Watcher:
    """Somebody who wants to know how a row gets on."""

    notify: Callable[[Progress], None]
    """Called on the engine's threads, so it must return at once; what it raises is logged."""
    preview_every: int = 0
    """Model calls between previews; 0 makes none."""
    previews: int = 0
    """So many besides, spread evenly over the run; fewer where it has fewer calls."""

    def wants_preview(self, call: int, calls: int) -> bool:
        """Whether this call is one to show. The last one is not: the picture itself follows."""
        if call >= calls:
            return False
        if self.preview_every > 0 and call % self.preview_every == 0:
            return True
        parts = min(self.previews, calls - 1) + 1
        return call * parts // calls > (call - 1) * parts // calls


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """Who waits for a row, and since when; times are on the engine's clock."""

    future: Future[ImageResult]
    """Cancelling it takes the row out of the engine before its next model call."""
    submitted_s: float
    deadline_s: float | None = None
    """When the picture should be there; who is late is still served."""
    watcher: Watcher | None = None


@dataclass(eq=False)
class Run:
    """A row, what its seed and scheduler settled beforehand, and how far it has come."""

    row: Row
    prepared: PreparedImage | None
    text: RowText
    key: BatchKey
    table: StepTable
    area: float
    """Latent cells, in units of the native size: what one lane costs, and takes of the memory."""
    ticket: Ticket
    guidance_scale: float
    """The row's own, or 1 where the model has no lane without the prompt."""
    adapters: AdapterSet = NO_ADAPTERS
    noise: RowNoise = field(init=False)
    """Drawn once the queue has room."""
    eta_s: float = 0.0
    """Seconds from its arrival until its picture, as foreseen when it came to the queue."""
    started_s: float = 0.0
    call: int = 0
    """Model calls done."""
    phases: list[Phase] = field(default_factory=list)
    """Those that are over."""

    @cached_property
    def guided_calls(self) -> range:
        """The calls at which guidance is on; none when the scale leaves nothing to guide."""
        if self.guidance_scale <= 1:
            return range(0)
        calls = self.table.calls
        return range(round(self.row.guidance_start * calls), round(self.row.guidance_end * calls))

    @property
    def guided(self) -> bool:
        """Whether the row takes a second, unconditional lane at the next call."""
        return self.call in self.guided_calls

    @property
    def lanes(self) -> int:
        """Lanes that the row takes of the next forward."""
        return 2 if self.guided else 1

    @property
    def load(self) -> float:
        """The same in lanes of the native size; small ones take one."""
        return self.lanes * self._lane_weight

    @property
    def weight(self) -> float:
        """What the row takes of the capacity, in lanes of the native size.

        A second lane counts until the last call that needs it, also before the first: a row that
        runs must never find its lane taken.
        """
        return (2 if self.call < self.guided_calls.stop else 1) * self._lane_weight

    @property
    def warnings(self) -> tuple[str, ...]:
        """What of the row was not followed to the letter."""
        return self.text.warnings + (() if self.prepared is None else self.prepared.warnings)

    @property
    def calls(self) -> int:
        """Model calls of the whole run."""
        return self.table.calls

    @property
    def calls_left(self) -> int:
        """Model calls still to do."""
        return self.table.calls - self.call

    @property
    def lane_calls_left(self) -> float:
        """Model calls still to do, each counted with its lanes: what the row still costs."""
        guided_left = len(range(max(self.call, self.guided_calls.start), self.guided_calls.stop))
        return (self.calls_left + guided_left) * self._lane_weight

    @property
    def priority(self) -> Priority:
        """As the row says."""
        return self.row.priority

    @property
    def submitted_s(self) -> float:
        """When it arrived."""
        return self.ticket.submitted_s

    @property
    def deadline_s(self) -> float | None:
        """When its picture should be there."""
        return self.ticket.deadline_s

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the row any more: it was cancelled, or has failed."""
        return self.ticket.future.done()

    def passed(self, phase: PhaseName, begun_s: float, ended_s: float) -> None:
        """Notes where its time went; both on the engine's clock."""
        self.phases.append(Phase(phase, begun_s - self.submitted_s, ended_s - self.submitted_s))

    @property
    def _lane_weight(self) -> float:
        return max(self.area, 1.0)
