"""What every wire format does with a request that it has decoded: settle it, then run or watch it.

A wire format is a module, or a folder of them, with `routes(service) -> list[Route]`; it knows its
own fields and shapes and nothing of the others. `routes.py` puts them together.
"""

from collections.abc import AsyncGenerator

from starlette.requests import Request

from deployments.ingress.backend import Backend, card_for
from deployments.ingress.resolve import resolve
from deployments.ingress.settings import IngressSettings
from deployments.requests import (
    GenerationParams,
    GenerationRequest,
    ImageResult,
    ModelCard,
    Progress,
)


class Service:
    """The backend and the settings, as the wire formats use them."""

    def __init__(self, backend: Backend, settings: IngressSettings) -> None:
        self.backend = backend
        self.settings = settings

    def card(self, model: str | None) -> ModelCard:
        """The card of the model that a client named, or of the default model.

        Raises UnknownModel or ModelNotReady.
        """
        return card_for(self.backend, model)

    def settle(
        self, request: Request, params: GenerationParams, card: ModelCard
    ) -> GenerationRequest:
        """The rows that `params` asks for, named after the request's id; or InvalidRequest."""
        return resolve(
            params,
            card,
            request_id=request.scope["request_id"],
            max_megapixels=self.settings.max_megapixels,
        )

    async def generate(self, settled: GenerationRequest) -> list[ImageResult]:
        """One result for each row, in their order. Cancelling it frees the rows' lanes."""
        return await self.backend.generate(settled)

    def watch(
        self, settled: GenerationRequest, *, previews: int
    ) -> AsyncGenerator[Progress | ImageResult]:
        """What the rows tell as they run, each one's picture last; `previews` of each row.

        Closing it frees the rows' lanes.
        """
        return self.backend.watch(settled, previews=previews)


def caller(request: Request) -> str:
    """Who asks: the name of the API key, or `anonymous` where none is needed."""
    name: str = request.scope["caller"]
    return name
