"""What every wire format does with a request that it has decoded: settle it, then run or watch it.

A wire format is a module, or a folder of them, with `routes(service) -> list[Route]`; it knows its
own fields and shapes and nothing of the others. `routes.py` puts them together.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from deployments.ingress.backend import Backend, card_for
from deployments.ingress.counting import Counting
from deployments.ingress.limits import Leases, check_pixels, narrowed
from deployments.ingress.metadata import described
from deployments.ingress.resolve import resolve
from deployments.ingress.results import Results
from deployments.ingress.settings import IngressSettings
from deployments.meter import UNREAD, Meter
from deployments.requests import (
    GenerationParams,
    GenerationRequest,
    ImageResult,
    ModelCard,
    Progress,
)


class Service:
    """The backend and the settings, as the wire formats use them."""

    def __init__(self, backend: Backend, settings: IngressSettings, meter: Meter = UNREAD) -> None:
        self.backend = backend
        self.settings = settings
        self._meter = meter
        self.results = Results(settings)
        self._leases = Leases(backend.jobs, settings.limits)

    def card(self, model: str | None) -> ModelCard:
        """The card of the model that a client named, or of the default model, with the limits of
        the settings.

        Raises UnknownModel or ModelNotReady.
        """
        return narrowed(card_for(self.backend, model), self.settings.limits)

    async def settle(
        self, request: Request, params: GenerationParams, card: ModelCard
    ) -> GenerationRequest:
        """The rows that `params` asks for, named after the request's id; or InvalidRequest."""
        request_id, limit = request.scope["request_id"], self.settings.max_megapixels
        resolving = partial(resolve, params, card, request_id=request_id, max_megapixels=limit)
        # On a thread where there are files: of an evil one the header alone takes seconds to read.
        with_file = params.image is not None or params.mask is not None
        settled = await run_in_threadpool(resolving) if with_file else resolving()
        check_pixels(settled, self.settings.limits)
        return replace(settled, caller=caller(request))

    async def generate(self, settled: GenerationRequest) -> list[ImageResult]:
        """One result for each row, in their order. Cancelling it frees the rows' lanes.

        Raises TooManyRows, as `watch` does.
        """
        with Counting(self._meter, settled) as counting:
            async with self._leases.held(settled):
                results = await self._finished(settled, await self.backend.generate(settled))
            counting.made(len(results))
        return results

    async def watch(
        self, settled: GenerationRequest, *, previews: int
    ) -> AsyncGenerator[Progress | ImageResult]:
        """What the rows tell as they run, each one's picture last; `previews` of each row.

        Closing it frees the rows' lanes.
        """
        with Counting(self._meter, settled) as counting:
            async with (
                self._leases.held(settled),
                aclosing(self.backend.watch(settled, previews=previews)) as told,
            ):
                async for each in told:
                    if isinstance(each, ImageResult):
                        (each,) = await self._finished(settled, [each])
                        counting.made(1)
                    yield each

    async def _finished(
        self, settled: GenerationRequest, results: list[ImageResult]
    ) -> list[ImageResult]:
        """The results as they go out: with how they were made in their files, if all have that."""
        if self.settings.picture_metadata != "all":
            return results
        return await run_in_threadpool(described, settled, results)


def caller(request: Request) -> str:
    """Who asks: the name of the API key, or `anonymous` where none is needed."""
    name: str = request.scope["caller"]
    return name
