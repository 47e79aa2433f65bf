"""Serves AUTOMATIC1111's routes.

Upstream, progress and interrupt are global; here they are the caller's, that is the API key's.
"""

import secrets

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.ingress.answers import json_answer
from deployments.ingress.automatic1111 import lists, wire
from deployments.ingress.automatic1111.info import encode_answer
from deployments.ingress.automatic1111.options import check_options, encode_options
from deployments.ingress.automatic1111.png_info import read_png_info
from deployments.ingress.automatic1111.progress import encode_progress
from deployments.ingress.automatic1111.refusals import Endpoint, refusing
from deployments.ingress.automatic1111.runs import cancel, owner_of, run
from deployments.ingress.bodies import MAX_JSON_BYTES, read_body, require_type
from deployments.ingress.metadata import described
from deployments.ingress.service import Service
from deployments.requests import GenerationParams, GenerationRequest, ImageResult, ModelCard


def routes(service: Service) -> list[Route]:
    """/sdapi/v1"""
    api = _Automatic1111(service)
    posts: dict[str, Endpoint] = {
        "txt2img": api.txt2img,
        "img2img": api.img2img,
        "interrupt": api.interrupt,
        "skip": api.skip,
        "png-info": api.png_info,
        "options": api.set_options,
        # Models and loras come and go by the service's config.
        "refresh-checkpoints": _constant(None),
        "refresh-loras": _constant(None),
    }
    gets: dict[str, Endpoint] = {
        "progress": api.progress,
        "options": api.options,
        "sd-models": api.sd_models,
        "samplers": api.samplers,
        "schedulers": api.schedulers,
        "loras": api.loras,
        "scripts": _constant(lists.NO_SCRIPTS),
        "embeddings": _constant(lists.NO_EMBEDDINGS),
        **dict.fromkeys(lists.EMPTY_LISTS, _constant([])),
    }
    return [
        Route(
            f"/sdapi/v1/{name}",
            refusing(endpoint, makes_pictures=name in ("txt2img", "img2img")),
            methods=[method],
        )
        for method, endpoints in (("POST", posts), ("GET", gets))
        for name, endpoint in endpoints.items()
    ]


class _Automatic1111:
    """The endpoints, over the service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._jobs = service.backend.jobs

    async def txt2img(self, request: Request) -> Response:
        """POST txt2img"""
        fields = wire.decode_text(await self._small_body(request))
        card = self._service.card(wire.model_of(fields))
        return await self._run(request, fields, wire.to_params(fields, card), card)

    async def img2img(self, request: Request) -> Response:
        """POST img2img"""
        call = await run_in_threadpool(wire.decode_image, await self._large_body(request))
        card = self._service.card(wire.model_of(call.fields))
        return await self._run(request, call.fields, wire.to_image_params(call, card), card)

    async def interrupt(self, request: Request) -> Response:
        """POST interrupt: ends all of the caller's jobs."""
        running = await self._jobs.running(owner_of(request))
        await cancel(self._jobs, owner_of(request), [job.id for job in running])
        return json_answer(b"{}")

    async def skip(self, request: Request) -> Response:
        """POST skip: ends the caller's oldest job."""
        running = await self._jobs.running(owner_of(request))
        await cancel(self._jobs, owner_of(request), [job.id for job in running[:1]])
        return json_answer(b"{}")

    async def progress(self, request: Request) -> Response:
        """GET progress"""
        with_image = request.query_params.get("skip_current_image", "").lower() not in _TRUE
        running = await self._jobs.running(owner_of(request))
        return json_answer(encode_progress(running, with_image=with_image))

    async def options(self, request: Request) -> Response:
        """GET options"""
        return json_answer(encode_options(self._service))

    async def set_options(self, request: Request) -> Response:
        """POST options"""
        check_options(self._service, await self._small_body(request))
        return json_answer(b"null")

    async def png_info(self, request: Request) -> Response:
        """POST png-info"""
        body = await self._large_body(request)
        limit = self._service.settings.max_megapixels
        return json_answer(await run_in_threadpool(read_png_info, body, max_megapixels=limit))

    async def sd_models(self, request: Request) -> Response:
        """GET sd-models"""
        models = lists.models(self._service.backend.cards().values())
        return json_answer(msgspec.json.encode(models))

    async def samplers(self, request: Request) -> Response:
        """GET samplers"""
        return json_answer(msgspec.json.encode(lists.samplers(self._service.card(None))))

    async def schedulers(self, request: Request) -> Response:
        """GET schedulers"""
        return json_answer(msgspec.json.encode(lists.schedulers(self._service.card(None))))

    async def loras(self, request: Request) -> Response:
        """GET loras"""
        return json_answer(msgspec.json.encode(lists.loras(self._service.card(None))))

    async def _run(
        self, request: Request, fields: wire.TextFields, params: GenerationParams, card: ModelCard
    ) -> Response:
        settled = await self._service.settle(request, params, card)
        # Not the request's id alone: a client may send the same one for ever, and would get the
        # job that it named first.
        job_id = f"{request.scope['request_id']}.{secrets.token_hex(4)}"
        state, results = await run(self._jobs, owner_of(request), job_id, settled)
        interrupted = state == "cancelled"
        return json_answer(
            await run_in_threadpool(self._answer, fields, settled, results, interrupted)
        )

    def _answer(
        self,
        fields: wire.TextFields,
        settled: GenerationRequest,
        results: list[ImageResult],
        interrupted: bool,
    ) -> bytes:
        if self._service.settings.picture_metadata != "off":
            results = described(settled, results)
        return encode_answer(fields, settled, results, interrupted=interrupted)

    async def _small_body(self, request: Request) -> bytes:
        require_type(request, "application/json")
        max_bytes = min(self._service.settings.max_body_bytes, MAX_JSON_BYTES)
        return await read_body(request, max_bytes=max_bytes)

    async def _large_body(self, request: Request) -> bytes:
        require_type(request, "application/json")
        return await read_body(request, max_bytes=self._service.settings.max_body_bytes)


_TRUE = ("1", "true", "yes", "on")


def _constant(content: object) -> Endpoint:
    encoded = msgspec.json.encode(content)

    async def endpoint(request: Request) -> Response:
        return json_answer(encoded)

    return endpoint
