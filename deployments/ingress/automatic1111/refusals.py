"""Errors as the web UI's clients know them: `{error, detail, body, errors}`, and its statuses.

The rest of the service speaks of its own fields; where pictures are made, they have the client's
names here.
"""

import functools
import logging
import re
from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import InvalidRequest, StepwiseError
from deployments.ingress.failures import describe, failure_headers

log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]

UNUSABLE = 422
"""The web UI's status for a field that cannot be used; ours elsewhere is 400."""
NO_SUCH_SAMPLER = 404

_THEIR_NAMES = {
    "guidance_scale": "cfg_scale",
    "image": "init_images",
    "loras": "tags of the prompt",
    "n": "batch_size * n_iter",
    "num_inference_steps": "steps",
    "scheduler": "sampler_name",
    "strength": "denoising_strength",
}
_OUR_NAMES = re.compile(
    r"^(?:image|loras|n|scheduler|strength)\b|\b(?:guidance_scale|num_inference_steps)\b"
)
"""The short ones are words too, and a field only where a message begins with it."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is not a success."""

    error: str
    detail: str
    body: str = ""
    errors: str


def refusing(endpoint: Endpoint, *, makes_pictures: bool) -> Endpoint:
    """The endpoint with its errors answered in this shape."""

    @functools.wraps(endpoint)
    async def wrapped(request: Request) -> Response:
        try:
            return await endpoint(request)
        except StepwiseError as error:
            response = _refusal(error, in_their_names=makes_pictures)
            if response.status_code >= 500:
                log.warning("%s, request %s", error, request.scope["request_id"])
            return response

    return wrapped


def _refusal(error: StepwiseError, *, in_their_names: bool) -> Response:
    status, detail = describe(error)
    if status == 400:
        is_sampler = isinstance(error, InvalidRequest) and error.param == "scheduler"
        status = NO_SUCH_SAMPLER if is_sampler else UNUSABLE
    message = detail.message
    if in_their_names:
        message = _OUR_NAMES.sub(lambda ours: _THEIR_NAMES[ours[0]], message)
    body = Refusal(error=type(error).__name__, detail=message, errors=message)
    return Response(
        msgspec.json.encode(body), status, failure_headers(error), media_type="application/json"
    )
