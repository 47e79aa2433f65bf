"""API keys, and what stands around every answer: CORS, security headers, patience with bodies."""

import asyncio
import base64
import hashlib
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from deployments.ingress.auth import keys_needed
from deployments.ingress.keys import KeyRing, main, read_keys
from deployments.ingress.patience import BodyDeadline
from deployments.ingress.routes import build_app
from deployments.ingress.settings import AuthSettings, IngressSettings
from serve_app.config import read_config
from tests.ingress_backend import OneColour, app_over, ask
from tests.test_config import changed

GENERATIONS = "/v1/images/generations"
PROMPT = {"prompt": "a red house"}
ANN, BOB = "stepwise-ann", "stepwise-bob"
KEY = {"authorization": f"Bearer {ANN}"}


def line(name: str, key: str) -> str:
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"


@pytest.fixture
def keys_file(tmp_path: Path) -> str:
    path = tmp_path / "keys"
    path.write_text(f"# who may ask\n{line('ann', ANN)}\n\n {line('bob', BOB)}  # since May\n")
    return str(path)


def guarded(keys_file: str, backend: OneColour | None = None, **settings: Any) -> Starlette:
    auth = AuthSettings(keys_file=keys_file)
    return build_app(backend or OneColour(), IngressSettings(auth=auth, **settings))


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def routes(app: Starlette) -> list[tuple[str, str]]:
    return [
        (method, route.path.replace("{", "").replace("}", "").replace(":path", ""))
        for route in app.routes
        if isinstance(route, Route)
        for method in sorted(route.methods or ())
    ]


def is_open(method: str, path: str) -> bool:
    return path in ("/healthz", "/readyz") or path.startswith("/v1/files/")


def test_no_route_but_health_answers_without_a_key(keys_file: str) -> None:
    app = guarded(keys_file)
    asked = [*routes(app), ("GET", "/"), ("GET", "/nowhere"), ("POST", "/healthz")]
    asked += [("OPTIONS", GENERATIONS), ("GET", "/healthz/"), ("GET", "//healthz")]
    assert ("POST", GENERATIONS) in asked
    for method, path in asked:
        if is_open(method, path) and method != "POST":
            assert ask(app, method, path).status_code in (200, 403, 404), path
            continue
        answer = ask(app, method, path)
        assert answer.status_code == 401, f"{method} {path}"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["x-request-id"]
        if method != "HEAD":
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert error["code"] == "invalid_api_key"
            assert "Authorization: Bearer" in error["message"]
        assert ask(app, method, path, headers=KEY).status_code != 401, f"{method} {path}"


def test_with_a_key_the_routes_answer(keys_file: str) -> None:
    app = guarded(keys_file)
    assert ask(app, "GET", "/v1/models", headers=KEY).status_code == 200
    assert ask(app, "POST", GENERATIONS, headers=KEY, json=PROMPT).status_code == 200
    assert ask(app, "GET", "/nowhere", headers=KEY).status_code == 404


@pytest.mark.parametrize(
    ("headers", "caller"),
    [
        ({"authorization": f"Bearer {ANN}"}, "ann"),
        ({"authorization": f"bearer  {BOB} "}, "bob"),
        ({"authorization": basic(f"anything:{BOB}")}, "bob"),
        ({"authorization": basic(f":{ANN}")}, "ann"),
        ({"x-api-key": BOB}, "bob"),
        ({"authorization": "Basic ", "x-api-key": ANN}, "ann"),
        ({"authorization": "Bearer ", "x-api-key": ANN}, "ann"),
    ],
)
def test_a_key_is_known_however_it_comes(
    keys_file: str, headers: dict[str, str], caller: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    backend = OneColour()
    app = guarded(keys_file, backend)
    assert ask(app, "POST", GENERATIONS, json=PROMPT, headers=headers).status_code == 200
    assert backend.asked[0].caller == caller
    logged = [each.getMessage() for each in caplog.records if each.name.startswith("deployments")]
    assert any(f" 200 {caller} " in each for each in logged)
    assert not any(ANN in each or BOB in each for each in logged)


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "no API key was sent"),
        ({"authorization": "Basic "}, "no API key was sent"),
        ({"authorization": "Basic !!"}, "no API key was sent"),
        ({"authorization": basic("ann")}, "no API key was sent"),
        ({"authorization": "Bearer"}, "no API key was sent"),
        ({"authorization": f"Digest {ANN}"}, "no API key was sent"),
        ({"authorization": f"Bearer {ANN[:-1]}"}, "not known here"),
        ({"authorization": f"Bearer {hashlib.sha256(ANN.encode()).hexdigest()}"}, "not known"),
        ({"authorization": f"Bearer {ANN} {ANN}"}, "not known here"),
        ({"authorization": "Bearer nobody", "x-api-key": ANN}, "not known here"),
        ({"authorization": basic(f"{ANN}:wrong")}, "not known here"),
        ({"authorization": "Bearer \xe9\xff"}, "not known here"),
        ({"x-api-key": "nobody"}, "not known here"),
    ],
)
def test_a_wrong_key_is_none(
    keys_file: str, headers: dict[str, str], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="deployments.ingress")
    backend = OneColour()
    raw = [(name, value.encode("latin-1")) for name, value in headers.items()]
    answer = ask(guarded(keys_file, backend), "POST", GENERATIONS, json=PROMPT, headers=raw)
    assert answer.status_code == 401
    assert says in answer.json()["error"]["message"]
    assert backend.asked == []
    (logged,) = [each.getMessage() for each in caplog.records]
    assert " 401 anonymous " in logged


def test_every_hash_is_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare_digest(presented: bytes, digest: bytes) -> bool:
        compared.append(digest)
        return presented == digest

    monkeypatch.setattr("hmac.compare_digest", compare_digest)
    hashes = [(name, hashlib.sha256(name.encode()).hexdigest()) for name in "abc"]
    ring = KeyRing(hashes)
    for key in (b"a", b"c", b"x"):
        compared.clear()
        assert ring.owner(key) == (key.decode() if key != b"x" else None)
        assert compared == [digest.encode() for _, digest in hashes]


def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch, keys_file: str) -> None:
    eve, new = line("eve", "stepwise-eve"), line("ann", "stepwise-new")
    monkeypatch.setenv("KEYS", f"{eve},{new}\n# none\n")
    ring = read_keys(AuthSettings(keys_env="KEYS", keys_file=keys_file))
    owners = [ring.owner(key.encode()) for key in ("stepwise-eve", "stepwise-new", ANN, BOB, "")]
    assert owners == ["eve", "ann", "ann", "bob", None]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{line('ann', ANN)}\nbob:{BOB}\n", "line 2 is not NAME:HASH"),
        (ANN, "line 1 is not NAME:HASH"),
        (line("ann", ANN).upper(), "line 1 is not NAME:HASH"),
        (line("ann", ANN) + "0", "line 1 is not NAME:HASH"),
        (line("a b", ANN), "line 1: the name 'a b' cannot be used"),
        (line("", ANN), "line 1: the name '' cannot be used"),
        (line("anonymous", ANN), "line 1: the name 'anonymous' cannot be used"),
        ("# nobody yet\n", "holds no key"),
    ],
)
def test_a_malformed_keys_file_is_refused_by_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ValueError, match="auth: keys_file") as caught:
        guarded(str(path))
    assert says in str(caught.value)
    assert ANN not in str(caught.value)
    assert BOB not in str(caught.value)


def test_keys_that_are_not_there_are_no_open_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        guarded(str(tmp_path / "none"))
    monkeypatch.delenv("KEYS", raising=False)
    with pytest.raises(ValueError, match="keys_env KEYS holds no key"):
        read_keys(AuthSettings(keys_env="KEYS"))


@pytest.mark.parametrize(
    ("host", "mode", "has_keys", "needed"),
    [
        ("127.0.0.1", "auto", False, False),
        ("127.8.8.8", "auto", False, False),
        ("localhost", "auto", False, False),
        ("::1", "auto", False, False),
        ("127.0.0.1", "auto", True, True),
        ("0.0.0.0", "auto", True, True),
        ("0.0.0.0", "on", True, True),
        ("0.0.0.0", "off", True, False),
        ("0.0.0.0", "off", False, False),
        ("0.0.0.0", False, False, False),
        ("127.0.0.1", True, True, True),
    ],
)
def test_when_a_key_is_needed(host: str, mode: Any, has_keys: bool, needed: bool) -> None:
    assert keys_needed(host, AuthSettings(mode=mode), has_keys=has_keys) is needed


@pytest.mark.parametrize(
    ("host", "mode", "says"),
    [
        ("0.0.0.0", "auto", "listens on 0.0.0.0 and no API keys are configured"),
        ("::", "auto", "or say auth.mode: off"),
        ("10.0.0.7", "auto", "keys_file or keys_env"),
        ("images.example", "auto", "listens on images.example"),
        ("127.0.0.1", "on", "mode is on and no API keys are configured"),
        ("0.0.0.0", True, "mode is on and no API keys are configured"),
    ],
)
def test_an_open_service_by_mistake_does_not_start(host: str, mode: Any, says: str) -> None:
    auth = AuthSettings(mode=mode)
    with pytest.raises(ValueError, match="auth: ") as caught:
        build_app(OneColour(), IngressSettings(auth=auth), host=host)
    assert says in str(caught.value)


@pytest.mark.parametrize(("written", "chosen"), [(False, "off"), ("off", "off"), (True, "on")])
def test_a_bare_off_of_yaml_is_off(written: Any, chosen: str) -> None:
    config = read_config(changed("ingress", "settings", "auth", to={"mode": written}))
    assert config.ingress.settings.auth.chosen == chosen


def test_a_misspelt_setting_is_refused_with_a_hint() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'keys_file'\?"):
        read_config(changed("ingress", "settings", "auth", to={"key_file": "x"}))


def test_the_command_makes_a_key_that_the_service_knows(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deployments.ingress.keys", "ann"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    key, stored = said[1].strip(), said[3].strip()
    assert key not in stored
    path = tmp_path / "keys"
    path.write_text(stored)
    assert read_keys(AuthSettings(keys_file=str(path))).owner(key.encode()) == "ann"


@pytest.mark.parametrize("arguments", [[], ["a b"], ["a", "b"], ["anonymous"]])
def test_the_command_refuses_what_is_no_name(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"usage|cannot be used"):
        main(arguments)


ORIGIN = "https://app.example"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}


def test_a_browser_s_preflight_needs_no_key(keys_file: str) -> None:
    app = guarded(keys_file, cors_origins=(ORIGIN,))
    answer = ask(app, "OPTIONS", GENERATIONS, headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "x-stainless-lang" in answer.headers["access-control-allow-headers"]
    other = ask(
        app, "OPTIONS", GENERATIONS, headers={**PREFLIGHT, "origin": "https://evil.example"}
    )
    assert other.status_code == 400
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("failure", [None, RuntimeError("unexpected")])
def test_a_page_may_read_answers_and_failures(failure: Exception | None) -> None:
    app = build_app(OneColour(failure=failure), IngressSettings(cors_origins=("*",)))
    answer = ask(app, "POST", GENERATIONS, json=PROMPT, headers={"origin": ORIGIN})
    assert answer.status_code == (200 if failure is None else 500)
    assert answer.headers["access-control-allow-origin"] == "*"
    exposed = answer.headers["access-control-expose-headers"]
    assert exposed == "x-request-id, x-seed, retry-after"


def test_without_origins_no_page_of_another_may_call() -> None:
    app = build_app(OneColour(), IngressSettings())
    answer = ask(app, "GET", "/v1/models", headers={"origin": ORIGIN})
    assert "access-control-allow-origin" not in answer.headers
    assert ask(app, "OPTIONS", GENERATIONS, headers=PREFLIGHT).status_code == 405


@pytest.mark.parametrize("origin", ["app.example", "https://app.example/", "ftp://a", ""])
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="cors_origins has"):
        IngressSettings(cors_origins=(origin,))


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/nowhere"])
@pytest.mark.parametrize("key", [{}, KEY])
def test_every_answer_ties_the_browser_s_hands(
    keys_file: str, path: str, key: dict[str, str]
) -> None:
    headers = ask(guarded(keys_file), "GET", path, headers=key).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["cache-control"] == "no-store"


def test_a_picture_itself_may_be_kept() -> None:
    app = build_app(OneColour(), IngressSettings())
    answer = ask(app, "POST", GENERATIONS, json=PROMPT, headers={"accept": "image/png"})
    assert "cache-control" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_body_that_does_not_arrive_is_not_waited_for() -> None:
    app = build_app(OneColour(), IngressSettings(body_timeout_s=0.01))

    async def dribble() -> AsyncIterator[bytes]:
        yield b'{"prompt": '
        await asyncio.Event().wait()

    answer = ask(
        app,
        "POST",
        GENERATIONS,
        content=dribble(),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 408
    assert answer.headers["connection"] == "close"
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "request_timeout")
    assert "after 0.01 s" in error["message"]


def test_after_the_body_the_news_that_the_client_left_may_take_its_time() -> None:
    heard: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.append(await receive())
        heard.append(await receive())

    async def run() -> None:
        left = asyncio.Event()
        arrives = [{"type": "http.request", "body": b"{}", "more_body": False}]

        async def receive() -> Any:
            if arrives:
                return arrives.pop()
            asyncio.get_running_loop().call_later(0.05, left.set)  # later than the body's deadline
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError(message)

        await BodyDeadline(app, timeout_s=0.01)({"type": "http"}, receive, send)

    asyncio.run(run())
    assert [message["type"] for message in heard] == ["http.request", "http.disconnect"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://ingress", 200),
        ("https://app.example", 200),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
def test_without_keys_other_sites_pages_start_nothing(origin: str | None, status: int) -> None:
    app = app_over(OneColour(), cors_origins=("https://app.example",))
    headers = {} if origin is None else {"origin": origin}
    answer = ask(app, "POST", "/sdapi/v1/interrupt", headers=headers, json={})
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"]["code"] == "foreign_origin"
        assert ask(app, "GET", "/v1/models", headers=headers).status_code == 200
