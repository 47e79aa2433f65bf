"""One job: what its rows have told so far."""

import asyncio
from dataclasses import dataclass, field, replace

from deployments.errors import StepwiseError
from deployments.requests import GenerationRequest, ImageResult, JobState, JobView, Progress


@dataclass(eq=False)
class Job:
    """A request on its way, and whoever waits for news of it."""

    owner: str
    """Who may ask for it: the caller, or of routes with jobs of their own a name made of it."""
    id: str
    request: GenerationRequest
    previews: int
    """Of each of its pictures."""
    created: float
    state: JobState = "waiting"
    error: StepwiseError | None = None
    ended: float | None = None
    """Unix seconds; None until it is over."""
    preview: bytes | None = None
    results: dict[str, ImageResult] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    writing: asyncio.Future[None] | None = None
    """The last time that it was written to the journal, which may not be over."""
    _told: dict[str, Progress] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by."""
        return self.owner, self.id

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self.ended is not None

    @property
    def input_bytes(self) -> int:
        """What its input files take, until it is over."""
        return len(self.request.image or b"") + len(self.request.mask or b"")

    @property
    def kept_bytes(self) -> int:
        """What its pictures take."""
        return sum(len(result.content) for result in self.results.values())

    def hear(self, told: Progress | ImageResult) -> None:
        """A row has told how far it is, or is done."""
        if isinstance(told, ImageResult):
            self.results[told.row_id] = told
        else:
            self._told[told.row_id] = told
            self.preview = told.preview or self.preview
        if self.results or any(each.state != "waiting" for each in self._told.values()):
            self.state = "running"
        self._wake()

    def end(self, state: JobState, now: float, error: StepwiseError | None = None) -> None:
        """Nothing changes after this."""
        self.state, self.error, self.ended = state, error, now
        self.request = replace(self.request, image=None, mask=None)  # nobody asks for these
        self._wake()

    @property
    def next_change(self) -> asyncio.Event:
        """Set at the next change; take it before you look, or you miss what comes between."""
        return self._changed

    def view(self) -> JobView:
        """What its caller may see."""
        rows = self.request.rows
        waiting = [
            each.queue_position
            for row_id, each in self._told.items()
            if each.state == "waiting" and row_id not in self.results
        ]
        left_s = [each.eta_s for row, each in self._told.items() if row not in self.results]
        return JobView(
            id=self.id,
            state=self.state,
            model=rows[0].model,
            created=self.created,
            images=len(rows),
            images_done=len(self.results),
            call=sum(self._calls_done(row.id) for row in rows),
            calls=sum(self._calls(row.id) for row in rows),
            queue_position=min(waiting, default=0),
            eta_s=0.0 if self.over else max(left_s, default=0.0),
            preview=self.preview,
            error=self.error,
        )

    def _calls_done(self, row_id: str) -> int:
        if row_id in self.results:
            return self.results[row_id].model_calls
        return self._told[row_id].call if row_id in self._told else 0

    def _calls(self, row_id: str) -> int:
        if row_id in self.results:
            return self.results[row_id].model_calls
        return self._told[row_id].calls if row_id in self._told else 0

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
