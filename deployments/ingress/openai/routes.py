"""Serves OpenAI's routes."""

import time

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.ingress.accept import as_picture, wants_picture
from deployments.ingress.answers import json_answer, picture_answer
from deployments.ingress.bodies import MAX_JSON_BYTES, read_body, require_type
from deployments.ingress.openai import wire
from deployments.ingress.service import Service


def routes(service: Service) -> list[Route]:
    """/v1/images and /v1/models"""
    api = _OpenAI(service)
    return [
        Route("/v1/images/generations", api.generations, methods=["POST"]),
        Route("/v1/images/edits", api.edits, methods=["POST"]),
        Route("/v1/models", api.models, methods=["GET"]),
    ]


class _OpenAI:
    """The endpoints, over the service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def generations(self, request: Request) -> Response:
        """POST /v1/images/generations"""
        require_type(request, "application/json")
        max_bytes = min(self._service.settings.max_body_bytes, MAX_JSON_BYTES)
        body = await read_body(request, max_bytes=max_bytes)
        return await self._run(request, wire.decode_generation(body))

    async def edits(self, request: Request) -> Response:
        """POST /v1/images/edits"""
        content_type = require_type(request, "multipart/form-data")
        body = await read_body(request, max_bytes=self._service.settings.max_body_bytes)
        # On a thread: 60 MB that keep almost reaching a boundary take the parser seven seconds.
        call = await run_in_threadpool(wire.decode_edit, body, content_type)
        return await self._run(request, call)

    async def models(self, request: Request) -> Response:
        """GET /v1/models"""
        return json_answer(wire.encode_models(self._service.backend.cards().values()))

    async def _run(self, request: Request, call: wire.ImagesCall) -> Response:
        card = self._service.card(call.fields.model)
        params = wire.to_params(call, card)
        accept = request.headers.get("accept", "")
        if wants_picture(accept):
            params = as_picture(params, accept, call.fields.output_format)
        settled = self._service.settle(request, params, card)
        created = int(time.time())
        results = await self._service.generate(settled)
        if wants_picture(accept):
            return picture_answer(results[0])
        return json_answer(wire.encode_images(call, results, created=created))
