"""A request as a command line, for people to try."""

import shlex
from urllib.parse import quote, urlencode

import msgspec

from deployments.ingress.documents.operation import JSON, PICTURES, Body, Operation

KEY_HEADER = "Authorization: Bearer YOUR_KEY"


def curl(operation: Operation, body: Body | None, *, url: str, keyed: bool) -> str:
    """The command for the service at `url`; files are `image.png`, of the folder it is run in."""
    words = ["curl"]
    if operation.method == "DELETE" or (operation.method == "POST" and body is None):
        words += ["-X", operation.method]
    words.append(url + _address(operation))
    if keyed and not operation.keyless:
        words += ["-H", KEY_HEADER]
    for each in operation.parameters:
        if each.place == "header":
            words += ["-H", f"{each.name}: {each.example}"]
    if body is not None:
        words += _sent(body)
    if operation.answers[0].media_types == PICTURES:
        words += ["-o", "picture.png"]
    return shlex.join(words)


def _address(operation: Operation) -> str:
    path, query = operation.path, {}
    for each in operation.parameters:
        if each.place == "path":
            path = path.replace(f"{{{each.name}}}", quote(each.example, safe=""))
        elif each.place == "query":
            query[each.name] = each.example
    return f"{path}?{urlencode(query)}" if query else path


def _sent(body: Body) -> list[str]:
    if body.type is None and not body.texts:
        return ["-H", f"Content-Type: {body.media_types[0]}", "--data-binary", "@image.png"]
    if JSON in body.media_types:
        return ["-H", f"Content-Type: {JSON}", "-d", _json(body.example)]
    words = []
    for name, value in body.example.items():
        words += ["-F", f"{name}={value if isinstance(value, str) else _json(value)}"]
    for file in body.files:
        if file.required:
            words += ["-F", f"{file.name}=@image.png"]
    return words


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
