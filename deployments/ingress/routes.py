"""The Starlette app: every wire format's routes, what stands around them, and the error table.

Knows no Ray and no torch.
"""

import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import StepwiseError
from deployments.ingress import health
from deployments.ingress.backend import Backend
from deployments.ingress.envelope import RequestEnvelope
from deployments.ingress.failures import failure_response
from deployments.ingress.openai import routes as openai
from deployments.ingress.service import Service
from deployments.ingress.settings import IngressSettings

log = logging.getLogger(__name__)

FORMATS = (openai, health)


def build_app(backend: Backend, settings: IngressSettings) -> Starlette:
    """The whole HTTP side of the service, over any backend."""
    service = Service(backend, settings)
    app = Starlette(
        routes=[route for wire_format in FORMATS for route in wire_format.routes(service)],
        middleware=[Middleware(RequestEnvelope)],
        exception_handlers={StepwiseError: _refused, HTTPException: _refused},
    )
    # A redirect to the path without its slash would answer with no body, and lose a POST's.
    app.router.redirect_slashes = False
    return app


async def _refused(request: Request, error: Exception) -> Response:
    response = failure_response(error)
    if response.status_code >= 500:
        log.warning("%s, request %s", error, request.scope["request_id"])
    return response
