"""The one place where an error becomes an HTTP status.

Every error body has OpenAI's shape, always with all four keys:
`{"error": {"message", "type", "param", "code"}}`.
"""

import math
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from deployments.errors import (
    AdapterFailed,
    EngineFailed,
    FileExpired,
    FileForbidden,
    ForeignOrigin,
    GenerationFailed,
    InvalidApiKey,
    InvalidRequest,
    ModelNotReady,
    RequestTooLarge,
    Requeue,
    SlowBody,
    StepwiseError,
    TooManyRows,
    UnknownFile,
    UnknownJob,
    UnknownModel,
)

LOADING_RETRY_S = 5
"""Asked of clients while a model loads: short against a load, long against a poll."""
MAX_RETRY_S = 60
"""OpenAI's client honours Retry-After up to this many seconds and guesses beyond it."""


class _Verdict(NamedTuple):
    status: int
    type: str
    code: str | None
    """`None`: the error brings its own."""


_TABLE: tuple[tuple[type[StepwiseError], _Verdict], ...] = (
    (InvalidApiKey, _Verdict(401, "invalid_request_error", "invalid_api_key")),
    (SlowBody, _Verdict(408, "invalid_request_error", "request_timeout")),
    (RequestTooLarge, _Verdict(413, "invalid_request_error", "request_too_large")),
    (UnknownModel, _Verdict(404, "invalid_request_error", "model_not_found")),
    (ForeignOrigin, _Verdict(403, "invalid_request_error", "foreign_origin")),
    (UnknownJob, _Verdict(404, "invalid_request_error", "job_not_found")),
    (FileForbidden, _Verdict(403, "invalid_request_error", "bad_signature")),
    (UnknownFile, _Verdict(404, "invalid_request_error", "file_not_found")),
    (FileExpired, _Verdict(410, "invalid_request_error", "file_expired")),
    (InvalidRequest, _Verdict(400, "invalid_request_error", None)),
    (TooManyRows, _Verdict(429, "rate_limit_error", "rate_limit_exceeded")),
    (ModelNotReady, _Verdict(503, "server_error", "server_is_overloaded")),
    (AdapterFailed, _Verdict(500, "server_error", "adapter_failed")),
    (Requeue, _Verdict(429, "rate_limit_error", "rate_limit_exceeded")),
    (GenerationFailed, _Verdict(500, "server_error", "generation_failed")),
    (EngineFailed, _Verdict(503, "server_error", "engine_failed")),
)
_UNEXPECTED = _Verdict(500, "server_error", "internal_error")
_UNEXPECTED_MESSAGE = (
    "the service met an unexpected error; it is logged under the request id of this answer"
)


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """The four keys that OpenAI's clients read."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is not a success."""

    error: ErrorDetail


def failure_response(error: Exception) -> Response:
    """The answer for any error: ours, Starlette's (404, 405) or one nobody expected."""
    status, detail = describe(error)
    return Response(
        msgspec.json.encode(ErrorBody(error=detail)),
        status_code=status,
        headers=failure_headers(error),
        media_type="application/json",
    )


def describe(error: Exception) -> tuple[int, ErrorDetail]:
    """Status and body of an error. What nobody expected is never quoted to the client."""
    if isinstance(error, HTTPException):
        phrase = HTTPStatus(error.status_code).phrase
        return error.status_code, ErrorDetail(
            message=f"{phrase}: see the README for the routes and methods offered",
            type="invalid_request_error",
            param=None,
            code=phrase.lower().replace(" ", "_"),
        )
    for kind, verdict in _TABLE:
        if isinstance(error, kind):
            own_code = error.code if isinstance(error, InvalidRequest) else None
            return verdict.status, ErrorDetail(
                message=error.message,
                type=verdict.type,
                param=error.param if isinstance(error, InvalidRequest) else None,
                code=verdict.code or own_code,
            )
    return _UNEXPECTED.status, ErrorDetail(
        message=_UNEXPECTED_MESSAGE, type=_UNEXPECTED.type, param=None, code=_UNEXPECTED.code
    )


def failure_headers(error: Exception) -> dict[str, str]:
    """When and whether a client should try again."""
    if isinstance(error, HTTPException):
        return dict(error.headers or {})
    if isinstance(error, ModelNotReady | EngineFailed):
        return {"retry-after": str(LOADING_RETRY_S)}
    if isinstance(error, Requeue):
        return {"retry-after": str(_retry_after_s(error.pending_s))}
    if isinstance(error, TooManyRows):
        return {"retry-after": str(_retry_after_s(error.retry_s))}
    if isinstance(error, InvalidApiKey):
        return {"www-authenticate": "Bearer"}
    if isinstance(error, SlowBody):
        # What is left of the body would be read, and thrown away, for as long as it takes.
        return {"connection": "close"}
    if isinstance(error, GenerationFailed | AdapterFailed):
        # A row is a pure function of its inputs: sent again, it would fail again. A file too.
        return {"x-should-retry": "false"}
    return {}


def _retry_after_s(pending_s: float) -> int:
    return min(max(math.ceil(pending_s), 1), MAX_RETRY_S)
