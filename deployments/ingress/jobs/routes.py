"""Serves jobs: a POST answers at once, the pictures are asked for later, of any ingress replica.

A job belongs to the caller who started it; nobody else can see or cancel it.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.errors import StepwiseError
from deployments.ingress.answers import json_answer
from deployments.ingress.bodies import read_body, require_type
from deployments.ingress.jobs import wire
from deployments.ingress.service import Service, caller
from deployments.ingress.sse import EventStream, error_event, event
from deployments.requests import JobView

PREVIEWS = 8
"""Previews of each picture of a job, spread evenly over its steps."""
IDEMPOTENCY_KEY = "idempotency-key"


def routes(service: Service) -> list[Route]:
    """/v1/jobs"""
    api = _Jobs(service)
    return [
        Route("/v1/jobs", api.start, methods=["POST"]),
        Route("/v1/jobs/{id}", api.get, methods=["GET"]),
        Route("/v1/jobs/{id}", api.cancel, methods=["DELETE"]),
        Route("/v1/jobs/{id}/events", api.events, methods=["GET"]),
    ]


class _Jobs:
    """The endpoints, over the ledger."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._jobs = service.backend.jobs

    async def start(self, request: Request) -> Response:
        """POST /v1/jobs"""
        require_type(request, "application/json")
        body = await read_body(request, max_bytes=self._service.settings.max_body_bytes)
        fields, image, mask = await run_in_threadpool(wire.decode_job, body)
        job_id = wire.chosen_id(fields.id, request.headers.get(IDEMPOTENCY_KEY))
        card = self._service.card(fields.model)
        params = wire.to_params(fields, image, mask, card)
        settled = await self._service.settle(request, params, card)
        view = await self._jobs.start(caller(request), job_id, settled, previews=PREVIEWS)
        return json_answer(wire.encode_job(view), status=202)

    async def get(self, request: Request) -> Response:
        """GET /v1/jobs/{id}"""
        return await self._told(request, await self._jobs.get(caller(request), _id(request)))

    async def cancel(self, request: Request) -> Response:
        """DELETE /v1/jobs/{id}"""
        return await self._told(request, await self._jobs.cancel(caller(request), _id(request)))

    async def events(self, request: Request) -> Response:
        """GET /v1/jobs/{id}/events"""
        who, job_id = caller(request), _id(request)
        # An unknown job is a 404; an error in the stream would come after a 200.
        await self._jobs.get(who, job_id)
        if request.method == "HEAD":
            return Response(media_type=EventStream.media_type)
        return EventStream(_events(self._jobs.events(who, job_id)))

    async def _told(self, request: Request, view: JobView) -> Response:
        if not _over(view):
            return json_answer(wire.encode_job(view))
        results = await self._jobs.results(caller(request), view.id)
        # On a thread: megabytes of base64.
        return json_answer(await run_in_threadpool(wire.encode_job, view, results=results))


async def _events(views: AsyncGenerator[JobView]) -> AsyncGenerator[bytes]:
    preview: bytes | None = None
    try:
        async with aclosing(views):
            async for view in views:
                name = view.state if _over(view) else "progress"
                known, preview = preview, view.preview
                news = replace(view, preview=None) if known == preview else view
                yield event(name, wire.encode_job(news))
    except StepwiseError as error:
        yield error_event(error)


def _over(view: JobView) -> bool:
    return view.state in ("succeeded", "failed", "cancelled")


def _id(request: Request) -> str:
    return wire.known_id(request.path_params["id"])
