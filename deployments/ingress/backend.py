"""What the routes need from whoever makes the pictures.

The Ray shim (`deployment.py`) is one; tests bring another. The routes know nothing else of it.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from deployments.errors import ModelNotReady, UnknownModel
from deployments.ingress.hints import did_you_mean, listed, shown
from deployments.requests import (
    GenerationRequest,
    ImageResult,
    JobView,
    ModelCard,
    Progress,
)


class Jobs(Protocol):
    """The ledger of jobs, which all ingress replicas share. Every job belongs to a caller."""

    async def start(
        self, owner: str, job_id: str, request: GenerationRequest, *, previews: int
    ) -> JobView:
        """Takes a job and answers at once. The same id of the same owner again gives the job that
        it named first; nothing is run twice. Raises Requeue when too many jobs are kept."""

    async def get(self, owner: str, job_id: str) -> JobView:
        """Raises UnknownJob, as all below do for a job that is not this owner's."""

    async def results(self, owner: str, job_id: str, *, forget: bool = False) -> list[ImageResult]:
        """The pictures made so far, in the order of the rows; of a failed job too.

        `forget` when nobody will ask for the job again, if it is over."""

    def events(self, owner: str, job_id: str) -> AsyncGenerator[JobView]:
        """The job now, then at every change, until it is over. A slow reader misses views between,
        never the last."""

    async def cancel(self, owner: str, job_id: str) -> JobView:
        """Frees the lanes of a job; of one that is over, nothing."""

    async def running(self, owner: str) -> list[JobView]:
        """The owner's jobs that are not over, oldest first."""

    async def take_lease(self, caller: str, lease_id: str, rows: int) -> None:
        """Counts rows that run outside of jobs, until the lease is ended or not renewed in time.
        Raises TooManyRows."""

    async def renew_lease(self, caller: str, lease_id: str) -> None:
        """Keeps a lease for another minute."""

    async def end_lease(self, caller: str, lease_id: str) -> None:
        """Its rows run no more."""


class Backend(Protocol):
    """Makes pictures and knows the models that can."""

    @property
    def jobs(self) -> Jobs:
        """The ledger."""

    def cards(self) -> Mapping[str, ModelCard]:
        """Cards of the models that were warm at least once, by model id."""

    def models(self) -> Sequence[str]:
        """Every configured model id; the first is the default model."""

    async def ready(self) -> bool:
        """Whether some model answers right now; takes about two seconds at most."""

    async def generate(self, request: GenerationRequest) -> list[ImageResult]:
        """One result for each row, in the order of the rows."""

    def watch(
        self, request: GenerationRequest, *, previews: int
    ) -> AsyncGenerator[Progress | ImageResult]:
        """What the rows tell as they run, `previews` of it with a preview for each row, and each
        row's picture last. Closing it cancels the rows."""


def card_for(backend: Backend, model: str | None) -> ModelCard:
    """The card of the model a client named, or of the default model."""
    models = backend.models()
    wanted = models[0] if model is None else model
    if wanted not in models:
        raise UnknownModel(
            f"model {shown(wanted)} is not served here{did_you_mean(wanted, models)}; "
            f"choose one of {listed(models)}",
            param="model",
        )
    card = backend.cards().get(wanted)
    if card is None:
        raise ModelNotReady(f"model {shown(wanted)} is still loading; try again in a few seconds")
    return card
