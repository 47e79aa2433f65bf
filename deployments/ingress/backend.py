"""What the routes need from whoever makes the pictures.

The Ray shim (`deployment.py`) is one; tests bring another. The routes know nothing else of it.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from deployments.errors import ModelNotReady, UnknownModel
from deployments.ingress.hints import did_you_mean, listed, shown
from deployments.requests import GenerationRequest, ImageResult, ModelCard


class Backend(Protocol):
    """Makes pictures and knows the models that can."""

    def cards(self) -> Mapping[str, ModelCard]:
        """Cards of the models that were warm at least once, by model id."""

    def models(self) -> Sequence[str]:
        """Every configured model id; the first is the default model."""

    async def ready(self) -> bool:
        """Whether some model answers right now; takes about two seconds at most."""

    async def generate(self, request: GenerationRequest) -> list[ImageResult]:
        """One result for each row, in the order of the rows."""


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
