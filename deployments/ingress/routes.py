"""The Starlette app: which path does what.

Knows no Ray, no torch and nobody's wire format: it reads a body, has `openai.py` decode it,
`resolve.py` settle it and the backend run it.
"""

import logging
import time

import msgspec
from python_multipart.multipart import parse_options_header
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.errors import InvalidRequest, ModelNotReady, StepwiseError
from deployments.ingress import openai
from deployments.ingress.accept import as_picture, wants_picture
from deployments.ingress.backend import Backend, card_for
from deployments.ingress.bodies import read_body
from deployments.ingress.envelope import RequestEnvelope
from deployments.ingress.failures import failure_response
from deployments.ingress.hints import listed, shown
from deployments.ingress.resolve import resolve
from deployments.ingress.settings import IngressSettings
from deployments.requests import ImageResult

log = logging.getLogger(__name__)

MAX_JSON_BYTES = 1_000_000
"""Two prompts of 32,000 characters, all escaped, take 768 kB; JSON is decoded on the event loop."""


def build_app(backend: Backend, settings: IngressSettings) -> Starlette:
    """The whole HTTP side of the service, over any backend."""
    api = _Api(backend, settings)
    app = Starlette(
        routes=[
            Route("/v1/images/generations", api.generations, methods=["POST"]),
            Route("/v1/images/edits", api.edits, methods=["POST"]),
            Route("/v1/models", api.models, methods=["GET"]),
            Route("/healthz", api.healthz, methods=["GET"]),
            Route("/readyz", api.readyz, methods=["GET"]),
        ],
        middleware=[Middleware(RequestEnvelope)],
        exception_handlers={StepwiseError: _refused, HTTPException: _refused},
    )
    # A redirect to the path without its slash would answer with no body, and lose a POST's.
    app.router.redirect_slashes = False
    return app


class _Api:
    """The endpoints, over their backend."""

    def __init__(self, backend: Backend, settings: IngressSettings) -> None:
        self._backend = backend
        self._settings = settings

    async def generations(self, request: Request) -> Response:
        """POST /v1/images/generations"""
        _require_type(request, "application/json")
        max_bytes = min(self._settings.max_body_bytes, MAX_JSON_BYTES)
        body = await read_body(request, max_bytes=max_bytes)
        return await self._run(request, openai.decode_generation(body))

    async def edits(self, request: Request) -> Response:
        """POST /v1/images/edits"""
        content_type = _require_type(request, "multipart/form-data")
        body = await read_body(request, max_bytes=self._settings.max_body_bytes)
        # On a thread: 60 MB that keep almost reaching a boundary take the parser seven seconds.
        call = await run_in_threadpool(openai.decode_edit, body, content_type)
        return await self._run(request, call)

    async def models(self, request: Request) -> Response:
        """GET /v1/models"""
        return _json(openai.encode_models(self._backend.cards().values()))

    async def healthz(self, request: Request) -> Response:
        """GET /healthz: this process lives and its event loop turns."""
        return _json(msgspec.json.encode({"status": "ok"}))

    async def readyz(self, request: Request) -> Response:
        """GET /readyz: some model would answer now."""
        if not await self._backend.ready():
            raise ModelNotReady(f"no model answers yet: {listed(self._backend.models())}")
        warm = list(self._backend.cards())
        return _json(msgspec.json.encode({"status": "ready", "models": warm}))

    async def _run(self, request: Request, call: openai.ImagesCall) -> Response:
        card = card_for(self._backend, call.fields.model)
        params = openai.to_params(call, card)
        accept = request.headers.get("accept", "")
        if wants_picture(accept):
            params = as_picture(params, accept, call.fields.output_format)
        settled = resolve(
            params,
            card,
            request_id=request.scope["request_id"],
            max_megapixels=self._settings.max_megapixels,
        )
        created = int(time.time())
        results = await self._backend.generate(settled)
        if wants_picture(accept):
            return _picture(results[0])
        return _json(openai.encode_images(call, results, created=created))


def _require_type(request: Request, wanted: str) -> str:
    """The content-type header as it came; an error if it is another type than the route's."""
    header = request.headers.get("content-type", "")
    if parse_options_header(header)[0] != wanted.encode():
        got = shown(header) if header else "none"
        raise InvalidRequest(
            f"content-type must be {wanted}, got {got}; set that header",
            code="unsupported_content_type",
        )
    return header


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _picture(result: ImageResult) -> Response:
    return Response(
        result.content,
        media_type=f"image/{result.output_format}",
        headers={"x-seed": str(result.seed)},
    )


async def _refused(request: Request, error: Exception) -> Response:
    response = failure_response(error)
    if response.status_code >= 500:
        log.warning("%s, request %s", error, request.scope["request_id"])
    return response
