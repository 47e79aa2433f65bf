"""The routes of the service that this one replaces: a form in, a picture out.

The form holds `message_json`, a JSON text, and for img2img `file`, the image.
"""

import msgspec
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.errors import InvalidRequest
from deployments.ingress.accept import as_picture
from deployments.ingress.answers import picture_answer
from deployments.ingress.bodies import (
    MAX_JSON_BYTES,
    MAX_PARAM,
    decode_json,
    decode_nested,
    read_body,
    require_type,
)
from deployments.ingress.forms import Form, parse_form, parse_urlencoded
from deployments.ingress.hints import did_you_mean, listed, shown
from deployments.ingress.options import DiffusionOptions, applied, canonical
from deployments.ingress.service import Service
from deployments.requests import GenerationParams

PREFIX = "/superlabs_diffusion/v1"
MAX_URLENCODED_BYTES = 3 * MAX_JSON_BYTES
"""A JSON text of which every byte is percent-encoded."""


class Options(DiffusionOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `options` of a message."""

    prompt: str


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON of `message_json`."""

    options: msgspec.Raw
    model: str | None = None
    # Accepted for old clients' sake; no picture depends on them.
    request_time: str | float | None = None
    note: str | None = None


_message_decoder = msgspec.json.Decoder(Message)
_options_decoder = msgspec.json.Decoder(Options)


def routes(service: Service) -> list[Route]:
    """/superlabs_diffusion/v1/txt2img and img2img"""

    async def txt2img(request: Request) -> Response:
        """A picture of a prompt."""
        form = await _form(request, max_bytes=service.settings.max_body_bytes)
        _refuse_unknown(form, known=("message_json",))
        return await _answer(request, service, form, image=None)

    async def img2img(request: Request) -> Response:
        """A picture of an image and a prompt."""
        require_type(request, "multipart/form-data")
        form = await _form(request, max_bytes=service.settings.max_body_bytes)
        _refuse_unknown(form, known=("message_json", "file"))
        files = form.files("file")
        if len(files) != 1:
            raise InvalidRequest(
                f"file: {len(files)} were sent; send one PNG, JPEG or WebP file",
                param="file",
                code="invalid_value" if files else "missing_required_parameter",
            )
        return await _answer(request, service, form, image=files[0])

    return [
        Route(f"{PREFIX}/txt2img", txt2img, methods=["POST"]),
        Route(f"{PREFIX}/img2img", img2img, methods=["POST"]),
    ]


async def _form(request: Request, *, max_bytes: int) -> Form:
    content_type = request.headers.get("content-type", "")
    # HTTP libraries send a form without a file URL-encoded.
    if parse_options_header(content_type)[0] == b"application/x-www-form-urlencoded":
        body = await read_body(request, max_bytes=min(max_bytes, MAX_URLENCODED_BYTES))
        return await run_in_threadpool(parse_urlencoded, body)
    require_type(request, "multipart/form-data")
    body = await read_body(request, max_bytes=max_bytes)
    return await run_in_threadpool(parse_form, body, content_type)


def _refuse_unknown(form: Form, *, known: tuple[str, ...]) -> None:
    for name in form.names():
        if name not in known:
            raise InvalidRequest(
                f"unknown part {shown(name)}{did_you_mean(name, known)}; known here: "
                f"{listed(known)}",
                param=name[:MAX_PARAM],
                code="unknown_parameter",
            )


async def _answer(
    request: Request, service: Service, form: Form, *, image: bytes | None
) -> Response:
    message, options = await run_in_threadpool(_message, form)
    card = service.card(message.model)
    params = applied(options, GenerationParams(prompt=options.prompt, model=card.id, image=image))
    params = as_picture(params, request.headers.get("accept", ""), None)
    (result,) = await service.generate(await service.settle(request, params, card))
    return picture_answer(result)


def _message(form: Form) -> tuple[Message, Options]:
    texts = form.texts(but=("file",))
    if "message_json" not in texts:
        raise InvalidRequest(
            "message_json is missing; send a JSON text with model and options",
            param="message_json",
            code="missing_required_parameter",
        )
    message = decode_json(texts["message_json"].encode(), _message_decoder, what="message_json")
    options = decode_nested(message.options, _options_decoder, param="options")
    return message, canonical(options)
