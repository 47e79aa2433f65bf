"""Whether the service lives and would answer: for load balancers and probes."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.errors import ModelNotReady
from deployments.ingress.answers import json_answer
from deployments.ingress.hints import listed
from deployments.ingress.service import Service


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """The body of GET /healthz."""

    status: str = "ok"


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The body of GET /readyz, where it is a success."""

    status: str = "ready"
    models: list[str]
    """Those that were warm at least once."""


def routes(service: Service) -> list[Route]:
    """/healthz and /readyz"""

    async def healthz(request: Request) -> Response:
        """This process lives and its event loop turns."""
        return json_answer(msgspec.json.encode(Alive()))

    async def readyz(request: Request) -> Response:
        """Some model would answer now."""
        if not await service.backend.ready():
            raise ModelNotReady(f"no model answers yet: {listed(service.backend.models())}")
        return json_answer(msgspec.json.encode(Ready(models=list(service.backend.cards()))))

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
    ]
