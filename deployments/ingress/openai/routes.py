"""Serves OpenAI's routes."""

import time

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.errors import InvalidRequest
from deployments.ingress.accept import as_picture, wants_picture
from deployments.ingress.answers import json_answer, picture_answer
from deployments.ingress.bodies import MAX_JSON_BYTES, read_body, require_type
from deployments.ingress.openai.answers import encode_images, encode_model, encode_models
from deployments.ingress.openai.edits import decode_edit, decode_json_edit, decode_variation
from deployments.ingress.openai.fields import ImagesCall, decode_generation
from deployments.ingress.openai.params import to_params
from deployments.ingress.openai.stream import begun_events
from deployments.ingress.service import Service
from deployments.ingress.sse import EventStream
from deployments.requests import GenerationRequest

FORM, JSON = "multipart/form-data", "application/json"


def routes(service: Service) -> list[Route]:
    """/v1/images and /v1/models"""
    api = _OpenAI(service)
    return [
        Route("/v1/images/generations", api.generations, methods=["POST"]),
        Route("/v1/images/edits", api.edits, methods=["POST"]),
        Route("/v1/images/variations", api.variations, methods=["POST"]),
        Route("/v1/models", api.models, methods=["GET"]),
        Route("/v1/models/{id:path}", api.model, methods=["GET"]),
    ]


class _OpenAI:
    """The endpoints, over the service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def generations(self, request: Request) -> Response:
        """POST /v1/images/generations"""
        require_type(request, JSON)
        max_bytes = min(self._service.settings.max_body_bytes, MAX_JSON_BYTES)
        body = await read_body(request, max_bytes=max_bytes)
        return await self._answer(request, decode_generation(body))

    async def edits(self, request: Request) -> Response:
        """POST /v1/images/edits"""
        content_type = require_type(request, FORM, JSON)
        body = await read_body(request, max_bytes=self._service.settings.max_body_bytes)
        if JSON in content_type.partition(";")[0].lower():
            return await self._answer(request, await run_in_threadpool(decode_json_edit, body))
        # On a thread: 60 MB that keep almost reaching a boundary take the parser seven seconds.
        call = await run_in_threadpool(decode_edit, body, content_type)
        return await self._answer(request, call)

    async def variations(self, request: Request) -> Response:
        """POST /v1/images/variations"""
        content_type = require_type(request, FORM)
        body = await read_body(request, max_bytes=self._service.settings.max_body_bytes)
        call = await run_in_threadpool(decode_variation, body, content_type)
        return await self._answer(request, call)

    async def models(self, request: Request) -> Response:
        """GET /v1/models"""
        return json_answer(encode_models(self._service.backend.cards().values()))

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{id}, where the id may have slashes."""
        return json_answer(encode_model(self._service.card(request.path_params["id"])))

    async def _answer(self, request: Request, call: ImagesCall) -> Response:
        card = self._service.card(call.fields.model)
        params = to_params(call, card)
        accept = request.headers.get("accept", "")
        picture = wants_picture(accept)
        if picture:
            _refuse_stream(call, accept)
            params = as_picture(params, accept, call.fields.output_format)
        settled = await self._service.settle(request, params, card)
        if call.stream:
            return await self._stream(request, call, settled)
        created = int(time.time())
        results = await self._service.generate(settled)
        if picture:
            return picture_answer(results[0])
        urls = await self._service.results.keep(request, results) if self._by_url(call) else None
        return json_answer(encode_images(call, settled, results, created=created, urls=urls))

    async def _stream(
        self, request: Request, call: ImagesCall, settled: GenerationRequest
    ) -> Response:
        told = self._service.watch(settled, previews=call.partial_images)
        request_id: str = request.scope["request_id"]
        return EventStream(await begun_events(call, settled, told, request_id=request_id))

    def _by_url(self, call: ImagesCall) -> bool:
        default = self._service.settings.default_response_format
        return (call.fields.response_format or default) == "url"


def _refuse_stream(call: ImagesCall, accept: str) -> None:
    if call.stream:
        raise InvalidRequest(
            f"stream is true, and Accept: {accept} has room for one picture; send stream false or "
            "Accept: text/event-stream",
            param="stream",
        )
