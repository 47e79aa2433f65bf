"""The documents against the app: they tell of everything that is there, and of nothing else."""

import asyncio
import base64
import hashlib
import re
import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from deployments.ingress.documents.operation import JSON, URLENCODED, Body, Operation
from deployments.ingress.documents.operations import OPERATIONS
from deployments.ingress.routes import build_app
from deployments.ingress.settings import AuthSettings, IngressSettings
from tests.bad_inputs import BAD_INPUTS, BadInput
from tests.ingress_backend import CARD, OneColour, ask, png
from tests.service import Service

KEY = "stepwise-key"


@pytest.fixture(scope="module")
def app() -> Starlette:
    return build_app(OneColour(), IngressSettings())


@pytest.fixture(scope="module")
def keyed_app(tmp_path_factory: pytest.TempPathFactory) -> Starlette:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"somebody:{hashlib.sha256(KEY.encode()).hexdigest()}")
    return build_app(OneColour(), IngressSettings(auth=AuthSettings(keys_file=str(keys))))


@pytest.fixture(scope="module")
def told(app: Starlette) -> dict[str, Any]:
    return document_of(app)


def document_of(app: Starlette, **headers: str) -> dict[str, Any]:
    answer = ask(app, "GET", "/openapi.json", headers=headers)
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    return document


def named(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def test_every_route_is_told_of_and_every_operation_exists(
    app: Starlette, told: dict[str, Any]
) -> None:
    offered = {
        (method, route.path.replace(":path}", "}"))
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {
        (method.upper(), path) for path, methods in told["paths"].items() for method in methods
    }
    assert described == offered
    assert len(OPERATIONS) == len(offered)


def test_every_reference_leads_somewhere(told: dict[str, Any]) -> None:
    references = set(re.findall(rb'"\$ref":"#/components/([^"]+)"', msgspec.json.encode(told)))
    there = {
        f"{kind}/{name}".encode()
        for kind, members in told["components"].items()
        for name in members
    }
    assert references
    assert references <= there
    assert not [name for name in there if b"deployments" in name]


def test_names_of_operations_are_unique(told: dict[str, Any]) -> None:
    names = [each["operationId"] for path in told["paths"].values() for each in path.values()]
    assert len(set(names)) == len(names)


def test_every_refusal_of_a_bad_input_is_told_of(told: dict[str, Any]) -> None:
    shapes = {"openai": "Error", "automatic1111": "automatic", "huggingface": "huggingface"}
    for case in BAD_INPUTS:
        if case.code in ("not_found", "method_not_allowed"):
            continue  # of no operation
        operation = next(each for each in OPERATIONS if leads_to(each, case))
        responses = told["paths"][operation.path][operation.method.lower()]["responses"]
        assert str(case.status) in responses, (case.path, case.name)
        name = responses[str(case.status)]["$ref"].rpartition("/")[2]
        assert name.startswith(shapes[case.shape]), (case.path, case.name)


def leads_to(operation: Operation, case: BadInput) -> bool:
    # {id} may have slashes, but for a job's.
    pattern = re.sub(r"{\w+}", "[^/]*" if "/jobs" in operation.path else ".*", operation.path)
    path = case.path.partition("?")[0]
    return operation.method == case.method and re.fullmatch(pattern, path) is not None


def requests() -> Iterator[tuple[Operation, Body, str]]:
    for operation in OPERATIONS:
        for body in operation.bodies:
            for media_type in body.media_types:
                yield operation, body, media_type


@pytest.mark.parametrize(
    ("operation", "body", "media_type"),
    [pytest.param(*each, id=f"{named(each[0])} {each[2]}") for each in requests()],
)
def test_requests_as_shown_are_answered_as_told(
    operation: Operation, body: Body, media_type: str
) -> None:
    path = operation.path.replace("{id}", CARD.id)
    answer = ask(
        build_app(OneColour(), IngressSettings()), operation.method, path, **sent(body, media_type)
    )
    assert_told(operation, answer)


def sent(body: Body, media_type: str) -> dict[str, Any]:
    """The example of a body, as httpx takes it."""
    if body.type is None and not body.texts:
        return {"content": png(64, 64), "headers": {"content-type": media_type}}
    if media_type == JSON:
        return {"json": body.example}
    fields = {
        name: msgspec.json.encode(value).decode() if name in body.texts else str(value)
        for name, value in body.example.items()
    }
    if media_type == URLENCODED:
        return {"data": fields}
    files = {file.name: png(64, 64, "RGBA") for file in body.files if file.required}
    return {"files": files | {name: (None, value) for name, value in fields.items()}}


def assert_told(operation: Operation, answer: httpx.Response) -> None:
    """The answer is a success of a status, a media type and a shape that the operation tells of."""
    kind = answer.headers["content-type"].partition(";")[0]
    told = [
        each
        for each in operation.answers
        if each.status == answer.status_code and kind in each.media_types
    ]
    assert told, (answer.status_code, kind, answer.text[:500])
    if kind == JSON:
        msgspec.json.decode(answer.content, type=told[0].type)


def test_jobs_are_answered_as_told(app: Starlette) -> None:
    by_name = {named(each): each for each in OPERATIONS}
    ask(app, "POST", "/v1/jobs", json={"prompt": "a red house", "id": "seven"})
    for name in ("GET /v1/jobs/{id}/events", "GET /v1/jobs/{id}", "DELETE /v1/jobs/{id}"):
        method, path = name.replace("{id}", "seven").split()
        assert_told(by_name[name], ask(app, method, path))


@pytest.mark.parametrize(
    "operation",
    [each for each in OPERATIONS if not each.bodies and not each.parameters],
    ids=named,
)
def test_the_others_are_answered_as_told(app: Starlette, operation: Operation) -> None:
    assert_told(operation, ask(app, operation.method, operation.path))


def test_answers_shown_have_the_shape_told() -> None:
    shown = [
        (answer.type, answer.example)
        for operation in OPERATIONS
        for answer in operation.answers
        if answer.example is not None
    ]
    assert len(shown) >= 5
    for type_, example in shown:
        decoded = msgspec.json.decode(msgspec.json.encode(example), type=type_)
        again = msgspec.json.decode(msgspec.json.encode(decoded))
        assert again == {**again, **example}


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_keys_are_asked_for_where_it_is_told(keyed_app: Starlette, operation: Operation) -> None:
    answer = ask(keyed_app, operation.method, re.sub(r"{\w+}", "x", operation.path))
    assert (answer.status_code == 401) == (not operation.keyless)
    told = document_of(keyed_app, authorization=f"Bearer {KEY}")
    security = told["paths"][operation.path][operation.method.lower()].get("security")
    assert security == ([] if operation.keyless else None)


def test_a_key_is_told_of_where_one_was_asked_for(
    keyed_app: Starlette, told: dict[str, Any]
) -> None:
    keyed = document_of(keyed_app, authorization=f"Bearer {KEY}")
    schemes = [name for each in keyed["security"] for name in each]
    assert set(schemes) == set(keyed["components"]["securitySchemes"])
    assert told["security"] == []
    assert "YOUR_KEY" in ask(keyed_app, "GET", "/docs", headers={"x-api-key": KEY}).text


def test_the_document_is_served_where_the_service_is(app: Starlette) -> None:
    """As Serve says it to an app with a route prefix."""

    async def get(path: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=app, root_path="/pictures")
        async with httpx.AsyncClient(transport=transport, base_url="http://ingress") as client:
            return await client.get(f"/pictures{path}")

    assert asyncio.run(get("/openapi.json")).json()["servers"] == [{"url": "/pictures"}]
    assert "http://ingress/pictures/v1/models" in asyncio.run(get("/docs")).text


def test_limits_are_those_of_the_service(told: dict[str, Any]) -> None:
    fields = told["components"]["schemas"]["GenerationFields"]["properties"]
    assert fields["prompt"]["maxLength"] == 32_000
    assert (fields["seed"]["minimum"], fields["seed"]["maximum"]) == (0, 2**63 - 1)
    assert told["components"]["schemas"]["TextFields"]["properties"]["seed"]["minimum"] == -1


def test_a_form_has_its_files_beside_its_fields(told: dict[str, Any]) -> None:
    content = told["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"]
    form = content["multipart/form-data"]["schema"]
    assert form["required"] == ["prompt", "image"]
    assert form["properties"]["image"]["format"] == "binary"
    fields = told["components"]["schemas"]["EditFields"]["properties"]
    assert form["properties"].keys() == fields.keys() | {"image", "mask", "mask_image"}


@pytest.fixture(scope="module")
def page(app: Starlette) -> httpx.Response:
    return ask(app, "GET", "/docs")


def test_the_page_may_load_its_own_style_and_nothing_else(page: httpx.Response) -> None:
    [style] = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"<(script|img|link|iframe)|\ssrc=|\sstyle=", page.text)
    assert set(re.findall(r'href="([^#][^"]*)"', page.text)) == {"openapi.json"}


def test_the_page_tells_of_every_operation_and_every_type(
    page: httpx.Response, told: dict[str, Any]
) -> None:
    headings = set(re.findall(r"<h3><code>(.*?)</code></h3>", page.text))
    assert {unescape(each) for each in headings} == {named(each) for each in OPERATIONS}
    types = set(re.findall(r'<h3 id="(.*?)">', page.text))
    assert types == set(told["components"]["schemas"])
    assert set(re.findall(r'href="#(.*?)"', page.text)) <= types


def test_what_a_client_sends_stays_text_in_the_page(app: Starlette) -> None:
    assert "<script>" not in ask(app, "GET", "/docs", headers={"host": "<script>"}).text


@pytest.mark.slow
def test_every_command_of_the_page_runs(service: Service, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(png(256, 256))
    page = httpx.get(f"{service.url}/docs").text
    commands = [unescape(each) for each in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]
    assert len(commands) >= len(OPERATIONS)
    for command in commands:
        if "/v1/files/" in command:  # its address is signed
            continue
        said = subprocess.run(
            f"{command} --fail-with-body --silent --show-error --max-time 60",
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert said.returncode == 0, (command, said.stdout[:500], said.stderr)
