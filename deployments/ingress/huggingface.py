"""Hugging Face's text_to_image and image_to_image: a POST to the model's URL answers the picture.

A client that is given `/hf/models/{id}` as its model works unchanged. Errors have the shape that it
reads: `{"error": message, "error_type": code}`.
"""

import logging
from dataclasses import dataclass

import msgspec
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.errors import InvalidRequest, StepwiseError
from deployments.ingress.accept import as_picture
from deployments.ingress.answers import json_answer, picture_answer
from deployments.ingress.bodies import decode_json, decode_nested, read_body
from deployments.ingress.failures import describe, failure_headers
from deployments.ingress.hints import shown
from deployments.ingress.inline import inline_file
from deployments.ingress.options import DiffusionOptions, applied, canonical
from deployments.ingress.service import Service
from deployments.requests import GenerationParams

log = logging.getLogger(__name__)

_IMAGE_STARTS = ("iVBORw0KGgo", "/9j/", "UklGR", "data:image/")
"""How PNG, JPEG and WebP files begin in base64, and data URLs."""


class TargetSize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The size of an image_to_image picture, in pixels."""

    width: int
    height: int


class Parameters(DiffusionOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `parameters` of both tasks."""

    prompt: str | None = None
    target_size: TargetSize | None = None


class TaskBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON of both tasks. It is a base64 image where one of `parameters.prompt`, `strength` and
    `target_size` is given or it begins like one, and else a prompt."""

    inputs: str
    parameters: msgspec.Raw = msgspec.Raw(b"null")
    options: msgspec.Raw = msgspec.Raw(b"null")
    """`use_cache` and `wait_for_model` of older clients: accepted and ignored."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is not a success."""

    error: str
    error_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    prompt: str
    image: bytes | None
    parameters: Parameters


_body_decoder = msgspec.json.Decoder(TaskBody)
_parameters_decoder = msgspec.json.Decoder(Parameters)


def routes(service: Service) -> list[Route]:
    """/hf/models/{id}"""

    async def run_task(request: Request) -> Response:
        """POST /hf/models/{id}, where the id may have slashes."""
        try:
            return await _picture(request, service)
        except StepwiseError as error:
            return _refusal(error, request)

    return [Route("/hf/models/{id:path}", run_task, methods=["POST"])]


async def _picture(request: Request, service: Service) -> Response:
    card = service.card(request.path_params["id"])
    call = await _call(request, max_bytes=service.settings.max_body_bytes)
    params = applied(
        call.parameters,
        GenerationParams(
            prompt=call.prompt,
            prompt_optional=call.image is not None,
            model=card.id,
            image=call.image,
        ),
    )
    params = as_picture(params, request.headers.get("accept", ""), None)
    (result,) = await service.generate(await service.settle(request, params, card))
    return picture_answer(result)


async def _call(request: Request, *, max_bytes: int) -> _Call:
    """The request's JSON, or the image that its whole body is."""
    header = request.headers.get("content-type", "")
    kind = parse_options_header(header)[0]
    if kind == b"application/json":
        return await run_in_threadpool(_decoded, await read_body(request, max_bytes=max_bytes))
    if kind in (b"", b"application/octet-stream") or kind.startswith(b"image/"):
        image = await read_body(request, max_bytes=max_bytes)
        return _Call(prompt="", image=image, parameters=Parameters())
    raise InvalidRequest(
        f"content-type must be application/json, or image/* for an image by itself, got "
        f"{shown(header)}; set that header",
        code="unsupported_content_type",
    )


def _decoded(body: bytes) -> _Call:
    sent = decode_json(body, _body_decoder)
    parameters = canonical(decode_nested(sent.parameters, _parameters_decoder, param="parameters"))
    parameters = _with_target_size(parameters)
    if not _has_image(sent.inputs, parameters):
        return _Call(prompt=sent.inputs, image=None, parameters=parameters)
    return _Call(
        prompt=parameters.prompt or "",
        image=inline_file(sent.inputs, param="inputs"),
        parameters=parameters,
    )


def _has_image(inputs: str, parameters: Parameters) -> bool:
    told = (parameters.prompt, parameters.strength, parameters.target_size)
    return any(each is not None for each in told) or inputs.startswith(_IMAGE_STARTS)


def _with_target_size(parameters: Parameters) -> Parameters:
    target = parameters.target_size
    if target is None:
        return parameters
    if parameters.width is not None or parameters.height is not None:
        raise InvalidRequest(
            "target_size came together with width or height; send one of the two",
            param="target_size",
        )
    return msgspec.structs.replace(parameters, width=target.width, height=target.height)


def _refusal(error: StepwiseError, request: Request) -> Response:
    status, detail = describe(error)
    if status >= 500:
        log.warning("%s, request %s", error, request.scope["request_id"])
    body = msgspec.json.encode(Refusal(error=detail.message, error_type=detail.code))
    response = json_answer(body, status=status)
    response.headers.update(failure_headers(error))
    return response
