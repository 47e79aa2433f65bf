"""The OpenAPI 3.1 document, from the operations and the structs of the wire formats."""

from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from deployments.ingress.documents.fields import Json
from deployments.ingress.documents.operation import EVENTS, JSON, Answer, Body, Operation, Parameter
from deployments.ingress.documents.schemas import FILE, Schemas
from deployments.ingress.envelope import REQUEST_ID
from deployments.ingress.failures import MAX_RETRY_S, ErrorBody

NO_KEY, FOREIGN_ORIGIN, UNEXPECTED = 401, 403, 500
RETRY_LATER = (429, 503)
SECURITY: Json = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic", "description": "The key is the password."},
    "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
"""Any of these brings the key."""

_INFO = {
    "title": "Stepwise",
    "version": version("stepwise-serve"),
    "summary": "Image generation in which the denoising step, not the request, is the unit of work",
    "description": "The limits here hold for every model; what else a model allows is told by "
    "`/v1/capabilities`, and a request beyond that is refused with what would be allowed.",
}
_HEADERS: Json = {
    REQUEST_ID: {
        "description": "Names the request in the service's log.",
        "required": True,
        "schema": {"type": "string"},
    },
    "retry-after": {
        "description": "Seconds after which to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_RETRY_S},
    },
}


def document(operations: Sequence[Operation]) -> Json:
    """The document, without servers and security, which depend on who asks where."""
    writer = _Writer(operations)
    paths: dict[str, Json] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = writer.operation(each)
    return _short_names(
        {
            "openapi": "3.1.0",
            "info": _INFO,
            "paths": paths,
            "components": {
                "schemas": writer.schemas.components,
                "responses": writer.refusals,
                "headers": _HEADERS,
                "securitySchemes": SECURITY,
            },
        }
    )


class _Writer:
    """Writes operations; what they share gathers in `schemas` and `refusals`."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.schemas = Schemas(operations)
        self.refusals: dict[str, Json] = {}

    def operation(self, operation: Operation) -> Json:
        told: Json = {
            "operationId": _operation_id(operation),
            "tags": [operation.group],
            "summary": operation.says,
            "responses": self._responses(operation),
        }
        if operation.notes:
            told["description"] = operation.notes
        if operation.keyless:
            told["security"] = []
        if operation.parameters:
            told["parameters"] = [_parameter(each) for each in operation.parameters]
        if operation.bodies:
            content = {
                media_type: _media(self.schemas.body(body, media_type), _example(body))
                for body in operation.bodies
                for media_type in body.media_types
            }
            told["requestBody"] = {"required": True, "content": content}
        return told

    def _responses(self, operation: Operation) -> Json:
        told: Json = {}
        for answer in operation.answers:
            response = told.setdefault(
                str(answer.status),
                {"description": "", "headers": _headers(REQUEST_ID), "content": {}},
            )
            response["description"] = f"{response['description']} {answer.says}".strip()
            response["content"] |= dict.fromkeys(answer.media_types, self._answer(answer))
        around = [] if operation.keyless else [NO_KEY]
        around += [] if operation.method == "GET" else [FOREIGN_ORIGIN]
        for status in around:
            told[str(status)] = self._refusal(ErrorBody, status)
        for status in (*operation.refusals, UNEXPECTED):
            told[str(status)] = self._refusal(operation.refusal, status)
        return dict(sorted(told.items()))

    def _answer(self, answer: Answer) -> Json:
        if JSON in answer.media_types:
            return _media(self.schemas.of(answer.type), answer.example)
        if EVENTS in answer.media_types:
            return {"schema": self.schemas.of_events(answer.events)}
        is_text = answer.media_types[0].startswith("text/")
        return {"schema": {"type": "string"} if is_text else FILE}

    def _refusal(self, shape: type, status: int) -> Json:
        """A reference: refusals of one shape and status are told of once."""
        schema = self.schemas.of(shape)
        name = f"{schema['$ref'].rpartition('/')[2]}.{status}"
        if status == UNEXPECTED:
            # What fails is told by the route, what nobody expected is told around it.
            schema = {"anyOf": [schema, self.schemas.of(ErrorBody)]}
        later = ("retry-after",) if status in RETRY_LATER else ()
        self.refusals[name] = {
            "description": HTTPStatus(status).phrase,
            "headers": _headers(REQUEST_ID, *later),
            "content": {JSON: {"schema": schema}},
        }
        return {"$ref": f"#/components/responses/{name}"}


def _operation_id(operation: Operation) -> str:
    path = operation.path.translate(str.maketrans("/-.", "___", "{}"))
    return f"{operation.method.lower()}{path}"


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.says,
        "required": parameter.required,
        "schema": {"type": "string"},
        "example": parameter.example,
    }


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _media(schema: Json, example: Any) -> Json:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _example(body: Body) -> Any:
    """None for a body with files, of which JSON can hold none."""
    if body.files or not body.texts:
        return None if body.files else body.example
    return {name: msgspec.json.encode(value).decode() for name, value in body.example.items()}


def _short_names(told: Json) -> Json:
    """Structs of one name are told apart by their modules, less the folder that all are in."""
    text = msgspec.json.encode(told).replace(b"deployments.ingress.", b"")
    short: Json = msgspec.json.decode(text)
    return short
