"""The operations as one plain page, without scripts and without anything to load."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from deployments.ingress.documents.curl import curl
from deployments.ingress.documents.fields import Json
from deployments.ingress.documents.operation import Answer, Body, Operation
from deployments.ingress.documents.schemas import REFERENCE

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
    color: #222; background: #fff }
h2 { margin-top: 3rem; border-bottom: 1px solid #ccc }
h3 { margin-top: 2rem }
code, pre { font: 14px/1.4 ui-monospace, monospace }
pre { background: #f4f4f4; padding: .6rem; overflow-x: auto; white-space: pre-wrap;
    overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 }
th, td { border-bottom: 1px solid #ddd; padding: .2rem .6rem .2rem 0; text-align: left;
    vertical-align: top }
a { color: #0645ad }
"""
_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""The page's content-security-policy: its own style and nothing else."""


def page(told: Json, operations: Sequence[Operation], *, url: str, keyed: bool) -> str:
    """The page of a service at `url`; `told` is the OpenAPI document of the operations."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(told['info']['title'])}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(told['info']['title'])} {escape(told['info']['version'])}</h1>"
        f"<p>{_text(told['info']['description'])}</p>"
        f'<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>'
        + "".join(
            f"<h2>{escape(group)}</h2>"
            + "".join(_operation(each, told, url=url, keyed=keyed) for each in members)
            for group, members in groupby(operations, lambda each: each.group)
        )
        + "<h2>Types</h2>"
        + "".join(_type(name, schema) for name, schema in told["components"]["schemas"].items())
        + "</body></html>"
    )


def _operation(operation: Operation, told: Json, *, url: str, keyed: bool) -> str:
    described = told["paths"][operation.path][operation.method.lower()]
    content = described.get("requestBody", {}).get("content", {})
    commands = operation.bodies or (None,)
    return (
        f"<h3><code>{operation.method} {escape(operation.path)}</code></h3>"
        f"<p>{_text(operation.says)} {_text(operation.notes)}</p>"
        + _table(
            (each.name, f"in the {each.place}", _or_optional(each.required), _text(each.says))
            for each in operation.parameters
        )
        + "".join(_body(body, content) for body in operation.bodies)
        + "".join(_answer(each, described["responses"]) for each in operation.answers)
        + _refusals(described["responses"], told["components"]["responses"])
        + "".join(
            f"<pre>{escape(curl(operation, body, url=url, keyed=keyed))}</pre>" for body in commands
        )
    )


def _body(body: Body, content: Json) -> str:
    schema = content[body.media_types[0]]["schema"]
    return f"<p>Body: {_kinds(body.media_types)}</p>" + (
        f"<p>{_type_words(schema)}</p>" if "properties" not in schema else _fields(schema)
    )


def _answer(answer: Answer, responses: Json) -> str:
    schema = responses[str(answer.status)]["content"][answer.media_types[0]]["schema"]
    each_event = [event["properties"] for event in schema.get("oneOf", [])]
    events = "".join(
        f"<li>event <code>{escape(event['event']['const'])}</code>: {_type_words(event['data'])}"
        "</li>"
        for event in each_event
    )
    shape = "" if answer.type is None else f": {_type_words(schema)}"
    return (
        f"<p>Answer {answer.status}, {_kinds(answer.media_types)}{shape}. {_text(answer.says)}</p>"
        + (f"<ul>{events}</ul>" if events else "")
    )


def _refusals(responses: Json, refusals: Json) -> str:
    told = [
        f"{status} {escape(refusals[response['$ref'].rpartition('/')[2]]['description'])}"
        for status, response in responses.items()
        if "$ref" in response
    ]
    return f"<p>Errors: {', '.join(told)}.</p>"


def _type(name: str, schema: Json) -> str:
    return (
        f'<h3 id="{escape(name)}"><code>{escape(name)}</code></h3>'
        f"<p>{_text(schema.get('description', ''))}</p>{_fields(schema)}"
    )


def _fields(schema: Json) -> str:
    required, fields = schema.get("required", []), schema["properties"]
    return _table(
        (name, _type_words(fields[name]), _or_optional(name in required), _about(fields[name]))
        for name in sorted(fields, key=lambda name: name not in required)
    )


def _table(rows: Iterable[tuple[str, str, str, str]]) -> str:
    told = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{kind}</td><td>{need}</td><td>{says}</td></tr>"
        for name, kind, need, says in rows
    )
    return f"<table>{told}</table>" if told else ""


def _about(schema: Json) -> str:
    """What is said of a field, and its limits."""
    limits = " ".join(f"{word} {schema[name]}" for name, word in _LIMITS.items() if name in schema)
    return " ".join(filter(None, (_text(schema.get("description", "")), limits)))


_LIMITS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "minLength": "characters: from",
    "maxLength": "characters: up to",
}


def _type_words(schema: Json) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(REFERENCE))
        return f'<a href="#{name}">{name}</a>'
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type_words(each) for each in schema["anyOf"] if each != _NULL)
    if "contentSchema" in schema:
        return f"JSON of {_type_words(schema['contentSchema'])}"
    if schema.get("type") == "array":
        # msgspec writes a tuple's types as prefixItems, and false for what may follow.
        items = schema.get("prefixItems") or [schema.get("items", {})]
        return f"list of {_type_words(items[0])}"
    if schema.get("format") == "binary":
        return "file"
    if schema.get("contentEncoding") == "base64":
        return "base64"
    return escape(str(schema.get("type", "anything")))


_NULL = {"type": "null"}


def _or_optional(required: bool) -> str:
    return "required" if required else "optional"


def _kinds(media_types: Iterable[str]) -> str:
    return ", ".join(f"<code>{escape(each)}</code>" for each in media_types)


def _text(said: str) -> str:
    """Words between backticks as code."""
    parts = escape(said).split("`")
    return "".join(f"<code>{each}</code>" if i % 2 else each for i, each in enumerate(parts))
