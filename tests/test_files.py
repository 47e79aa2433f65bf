"""Pictures behind signed addresses: who may fetch them, until when, and what is deleted."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import fsspec
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import ASGIApp

from deployments.errors import FileForbidden
from deployments.ingress.results import Results
from deployments.ingress.settings import IngressSettings, ResultsSettings
from deployments.ingress.signing import check, signature
from deployments.ingress.store import (
    FsspecStore,
    Kept,
    LocalStore,
    Store,
    media_type,
    new_name,
    surplus,
)
from deployments.requests import GenerationRequest
from serve_app.app import build
from tests.bad_inputs import GENERATIONS
from tests.ingress_backend import OneColour, app_over, ask
from tests.rows import make_row

NOW = 1_790_000_000
SECRET = "a secret of the operator's"


@pytest.fixture
def results(tmp_path: Path) -> ResultsSettings:
    return ResultsSettings(folder=str(tmp_path / "results"), secret=SECRET)


def made_url(app: ASGIApp, **headers: str) -> str:
    sent = {"prompt": "a", "response_format": "url"}
    answer = ask(app, "POST", GENERATIONS, json=sent, headers=headers)
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["data"][0]["url"]
    return url


def test_any_replica_serves_what_another_kept(results: ResultsSettings) -> None:
    one, other = (app_over(OneColour(), results=results) for _ in range(2))
    url = made_url(one)
    answer = ask(other, "GET", url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.content.startswith(b"\x89PNG")
    assert ask(other, "HEAD", url).headers["content-length"] == str(len(answer.content))
    (expires,) = parse_qs(urlsplit(url).query)["expires"]
    assert abs(int(expires) - time.time() - results.keep_s) < 60


def test_an_ingress_alone_needs_no_secret(tmp_path: Path) -> None:
    alone, another = (
        app_over(OneColour(), results=ResultsSettings(folder=str(tmp_path))) for _ in range(2)
    )
    url = made_url(alone)
    assert ask(alone, "GET", url).status_code == 200
    assert ask(another, "GET", url).status_code == 403


def test_an_address_names_the_host_that_was_called_or_the_public_one(
    results: ResultsSettings,
) -> None:
    app = app_over(OneColour(), results=results)
    assert made_url(app, host="pictures.example:8443").startswith(
        "http://pictures.example:8443/v1/files/"
    )
    public = app_over(OneColour(), results=results, public_url="https://a.example/images/")
    assert made_url(public).startswith("https://a.example/images/v1/files/")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda url: url.replace("signature=", "signature=0"), 403, "bad_signature"),
        (lambda url: url.partition("?")[0], 403, "bad_signature"),
        (lambda url: url.partition("&")[0], 403, "bad_signature"),
        (lambda url: url.replace("expires=", "expires=9"), 403, "bad_signature"),
        (lambda url: url.replace("expires=", "expires=x"), 403, "bad_signature"),
        (lambda url: url.replace("expires=", "expires=" + "9" * 5000), 403, "bad_signature"),
        (lambda url: url[:-4] + "%C3%A9%FF", 403, "bad_signature"),
        (lambda url: url.replace(".png", ".jpeg"), 403, "bad_signature"),
        (lambda url: url.replace(".png", ".exe"), 404, "file_not_found"),
        (lambda url: url.replace("/v1/files/", "/v1/files/x"), 404, "file_not_found"),
        (lambda url: url.replace("/v1/files/", "/v1/files/%2E%2E%2F"), 404, "not_found"),
        (lambda url: url.replace("/v1/files/", "/v1/files/..%5C"), 404, "file_not_found"),
    ],
)
def test_another_address_leads_to_nothing(
    results: ResultsSettings, change: Any, status: int, code: str
) -> None:
    app = app_over(OneColour(), results=results)
    answer = ask(app, "GET", change(made_url(app)))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_an_address_ends(results: ResultsSettings) -> None:
    app = app_over(OneColour(), results=results)
    name, expires = new_name("png", NOW), int(time.time()) - 1
    signed = signature(name, expires, secret=SECRET)
    answer = ask(app, "GET", f"/v1/files/{name}?expires={expires}&signature={signed}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "file_expired")


def test_a_picture_may_go_before_its_address(results: ResultsSettings) -> None:
    app = app_over(OneColour(), results=results)
    url = made_url(app)
    for path in Path(results.folder).iterdir():
        path.unlink()
    answer = ask(app, "GET", url)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")


def test_a_distant_store_serves_the_same(results: ResultsSettings, memory: str) -> None:
    settings = ResultsSettings(url=memory, secret=SECRET)
    url = made_url(app_over(OneColour(), results=settings))
    answer = ask(app_over(OneColour(), results=settings), "GET", url)
    assert answer.content.startswith(b"\x89PNG")


@given(name=st.text(), expires=st.text(), given_signature=st.text())
def test_no_text_is_a_signature(name: str, expires: str, given_signature: str) -> None:
    with pytest.raises(FileForbidden):
        check(name, expires, given_signature.encode(errors="replace").decode(), secret="s", now=0)


def test_a_signature_is_of_its_name_its_time_and_its_secret() -> None:
    right = signature("a", 5, secret="s")
    check("a", "5", right, secret="s", now=5)
    others = [signature("b", 5, secret="s"), signature("a", 6, secret="s")]
    others.append(signature("a", 5, secret="t"))
    assert right not in others


@pytest.fixture
def memory() -> Iterator[str]:
    """An fsspec location with a folder, empty before and after."""
    yield "memory://stepwise/results"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(params=["local", "fsspec"])
def store(request: pytest.FixtureRequest, tmp_path: Path, memory: str) -> Store:
    limits = {"keep_s": 100.0, "max_bytes": 25}
    if request.param == "local":
        return LocalStore(str(tmp_path / "a" / "b"), **limits)  # type: ignore[arg-type]
    return FsspecStore(memory, **limits)  # type: ignore[arg-type]


def test_a_store_keeps_and_forgets(store: Store) -> None:
    names = [new_name("png", NOW + age) for age in (0, 60, 70, 80)]
    for name in names:
        store.put(name, name.encode()[:10])
    assert store.get(names[0]) == str(NOW).encode()
    assert store.get(new_name("png", NOW)) is None
    store.put("somebody-elses.txt", b"x" * 100)

    store.expire(NOW + 80)  # two of ten bytes have room: the newest
    assert [store.get(name) is None for name in names] == [True, True, False, False]
    store.expire(NOW + 175)
    assert [store.get(name) is None for name in names] == [True, True, True, False]
    assert store.get("somebody-elses.txt") == b"x" * 100


def test_what_two_replicas_delete_at_once_is_no_error(store: Store) -> None:
    name = new_name("png", NOW)
    store.put(name, b"a")
    store.expire(NOW + 101)
    store.expire(NOW + 101)
    assert store.get(name) is None


def test_surplus_is_what_is_old_and_what_has_no_room() -> None:
    def kept(made: int, size: int) -> Kept:
        return Kept(f"{made}-{'x' * 22}.png", size)

    young, old, older = kept(NOW, 6), kept(NOW - 50, 6), kept(NOW - 99, 6)
    all_three = [old, young, older]
    assert surplus(all_three, now=NOW, keep_s=99, max_bytes=18) == []
    assert surplus(all_three, now=NOW, keep_s=98, max_bytes=18) == [older.name]
    assert surplus(all_three, now=NOW, keep_s=99, max_bytes=12) == [older.name]
    assert surplus(all_three, now=NOW, keep_s=99, max_bytes=5) == [
        young.name,
        old.name,
        older.name,
    ]
    assert surplus([Kept("notes.txt", 99)], now=NOW, keep_s=1, max_bytes=1) == []


def test_names_cannot_be_guessed_and_say_what_they_hold() -> None:
    names = {new_name("jpeg", NOW) for _ in range(100)}
    assert len(names) == 100
    assert {media_type(name) for name in names} == {"image/jpeg"}
    for bad in ("", "a.png", "../" + next(iter(names)), next(iter(names)) + "\n"):
        assert media_type(bad) is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"keep_s": 0}, "keep_s must be a finite number above 0, got 0"),
        ({"max_mb": float("inf")}, "max_mb must be a finite number above 0, got inf"),
    ],
)
def test_settings_of_results_name_what_is_wrong(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ResultsSettings(**wrong)


def test_a_public_url_is_one() -> None:
    with pytest.raises(ValueError, match=r"public_url must begin with http.*'images\.example'"):
        IngressSettings(public_url="images.example")


def test_all_ingress_replicas_get_one_secret() -> None:
    def secret(**ingress: Any) -> str:
        args = {
            "models": [{"settings": {"id": "tiny", "source": "embedded"}}],
            "ingress": {"settings": ingress},
        }
        bound: Any = build(args)._bound_deployment
        settings: IngressSettings = bound.init_args[0]
        return settings.results.secret

    first, second = secret(), secret()
    assert len(first) == 64
    assert first != second
    assert secret(results={"secret": "mine"}) == "mine"
    assert secret(results={"secret_env": "MINE"}) == ""


def test_the_secret_may_be_in_the_environment(
    results: ResultsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = msgspec.structs.replace(results, secret="", secret_env="MINE")
    with pytest.raises(
        ValueError, match="secret_env is 'MINE', and that environment variable is e"
    ):
        Results(IngressSettings(results=ours))
    monkeypatch.setenv("MINE", SECRET)
    assert Results(IngressSettings(results=ours))._secret == SECRET
    with pytest.raises(ValueError, match="a secret and a secret_env: keep one"):
        msgspec.structs.replace(ours, secret=SECRET)


def test_what_has_expired_is_deleted_though_nobody_asks(tmp_path: Path) -> None:
    async def kept() -> None:
        settings = ResultsSettings(folder=str(tmp_path), keep_s=0.01)
        results = Results(IngressSettings(results=settings), sweep_every_s=0.0)
        request = Request({"type": "http", "scheme": "http", "server": ("a", 80), "path": "/",
                           "headers": [], "query_string": b""})  # fmt: skip
        answer = await OneColour().generate(GenerationRequest(rows=(make_row(),)))
        assert len(await results.keep(request, answer)) == 1
        assert results._sweeping is not None
        await asyncio.wait_for(results._sweeping, 30)
        assert not list(tmp_path.iterdir())

    asyncio.run(kept())
