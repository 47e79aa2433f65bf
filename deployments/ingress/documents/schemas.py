"""JSON Schemas of what the operations read and answer, from the structs that do it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, get_args

import msgspec

from deployments.ingress.documents.fields import Json, limits_of
from deployments.ingress.documents.operation import JSON, Body, Operation
from deployments.ingress.failures import ErrorBody

REFERENCE = "#/components/schemas/"
FILE: Json = {
    # The first is OpenAPI 3.1's word for a file, the last that of 3.0, which tools still read.
    "type": "string",
    "contentMediaType": "application/octet-stream",
    "format": "binary",
}


class Schemas:
    """Of everything that the operations name; structs are components."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        named = list(_types(operations))
        structs = [struct for type_ in named for struct in _structs_in(type_)]
        types = list(dict.fromkeys([*named, *structs]))
        schemas, components = msgspec.json.schema_components(
            types, ref_template=REFERENCE + "{name}"
        )
        self._by_type: dict[Any, Json] = dict(zip(types, schemas, strict=True))
        self.components: Json = components
        for component in components.values():
            if "description" in component:
                component["description"] = " ".join(component["description"].split())
        for struct in structs:
            properties = self.component(struct)["properties"]
            for name, limits in limits_of(struct).items():
                properties[name] |= limits

    def of(self, type_: Any) -> Json:
        """The schema; of a struct, a reference to it."""
        return self._by_type[type_]

    def component(self, struct: type[msgspec.Struct]) -> Json:
        """The schema of a struct itself."""
        found: Json = self.components[self.of(struct)["$ref"].removeprefix(REFERENCE)]
        return found

    def body(self, body: Body, media_type: str) -> Json:
        """The schema of a body as one of its media types."""
        if body.type is None and not body.texts:
            return FILE
        return self.of(body.type) if media_type == JSON else self._form(body)

    def of_events(self, events: Mapping[str, Any]) -> Json:
        """Of each event of a stream, which is how tools read the schema of a stream before 3.2."""
        return {"oneOf": [self._event(name, type_) for name, type_ in events.items()]}

    def _event(self, name: str, type_: Any) -> Json:
        return {
            "type": "object",
            "properties": {"event": {"const": name}, "data": _json_text(self.of(type_))},
            "required": ["event", "data"],
        }

    def _form(self, body: Body) -> Json:
        properties: Json = {}
        required: list[str] = []
        if body.type is not None:
            component = self.component(body.type)
            properties |= component["properties"]
            required += component.get("required", [])
        for name, type_ in body.texts.items():
            properties[name] = _json_text(self.of(type_)) | _said_of(properties.get(name, {}))
            required += [] if NoneType in get_args(type_) else [name]
        for file in body.files:
            properties[file.name] = {**FILE, "description": file.says}
            required += [file.name] if file.required else []
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }


def _types(operations: Iterable[Operation]) -> Iterator[Any]:
    yield ErrorBody
    for each in operations:
        yield each.refusal
        for body in each.bodies:
            yield from (body.type, *body.texts.values())
        for answer in each.answers:
            yield from (answer.type, *answer.events.values())


def _structs_in(type_: Any) -> Iterator[type[msgspec.Struct]]:
    """The type itself, if it is a struct, and all others that it is made of."""
    parts = get_args(type_)
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        yield type_
        parts = tuple(field.type for field in msgspec.structs.fields(type_))
    for part in parts:
        yield from _structs_in(part)


def _said_of(schema: Json) -> Json:
    return {name: schema[name] for name in ("description",) if name in schema}


def _json_text(schema: Json) -> Json:
    return {"type": "string", "contentMediaType": JSON, "contentSchema": schema}
