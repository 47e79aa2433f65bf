"""The Starlette app: every wire format's routes, what stands around them, and the error table.

Knows no Ray and no torch.
"""

import logging
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from deployments.errors import StepwiseError
from deployments.ingress import capabilities, files, health, huggingface, superlabs
from deployments.ingress.auth import Authenticated, keys_in_force
from deployments.ingress.automatic1111 import routes as automatic1111
from deployments.ingress.backend import Backend
from deployments.ingress.documents import routes as documents
from deployments.ingress.envelope import REQUEST_ID, RequestEnvelope
from deployments.ingress.failures import failure_response
from deployments.ingress.jobs import routes as jobs
from deployments.ingress.openai import routes as openai
from deployments.ingress.patience import BodyDeadline
from deployments.ingress.security import OwnPagesOnly, SecurityHeaders
from deployments.ingress.service import Service
from deployments.ingress.settings import IngressSettings
from deployments.ingress.traffic import Traffic
from deployments.meter import UNREAD, Meter

log = logging.getLogger(__name__)

FORMATS = (
    openai,
    files,
    automatic1111,
    huggingface,
    superlabs,
    jobs,
    capabilities,
    health,
    documents,
)


def build_app(
    backend: Backend,
    settings: IngressSettings,
    *,
    host: str = "127.0.0.1",
    meter: Meter = UNREAD,
) -> Starlette:
    """The whole HTTP side of the service, over any backend, where the server listens on `host`.

    Raises ValueError for API keys that cannot be read, or that are missing where others than this
    machine can reach the service.
    """
    service = Service(backend, settings, meter)
    app = Starlette(
        routes=[route for wire_format in FORMATS for route in wire_format.routes(service)],
        middleware=[Middleware(Traffic, meter=meter), *_around(settings, host)],
        exception_handlers={StepwiseError: _refused, HTTPException: _refused},
    )
    # A redirect to the path without its slash would answer with no body, and lose a POST's.
    app.router.redirect_slashes = False
    return app


def _around(settings: IngressSettings, host: str) -> list[Middleware]:
    """What every request passes on its way to a route, the outermost first."""
    keys = keys_in_force(settings.auth, host=host)
    around = [Middleware(SecurityHeaders)]
    if settings.cors_origins:
        # Before the keys are asked for: a browser's preflight brings none.
        around.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=("GET", "POST", "DELETE"),
                allow_headers=("*",),
                expose_headers=(REQUEST_ID, "x-seed", "retry-after"),
            )
        )
    around.append(Middleware(RequestEnvelope))
    if keys is not None:
        around.append(Middleware(Authenticated, keys=keys))
    else:
        around.append(Middleware(OwnPagesOnly, allowed=settings.cors_origins))
    around.append(Middleware(BodyDeadline, timeout_s=settings.body_timeout_s))
    return around


async def _refused(request: Request, error: Exception) -> Response:
    response = failure_response(error)
    if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["allow"] = ", ".join(sorted(_allowed(request)))
    if response.status_code >= 500:
        log.warning("%s, request %s", error, request.scope["request_id"])
    return response


def _allowed(request: Request) -> set[str]:
    """The methods of all routes of a path: Starlette's own header has those of the first one."""
    return {
        method
        for route in request.app.routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods
    }
