"""The server benchmark: its parts, and all of it once on real services, very small."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pydantic
import pytest
from server import added, child, client, decoding, load
from server.bars import bars
from server.client import Answer, Refused
from server.fastapi_app import Generation, Images
from server.figures import (
    DecodeFigures,
    HttpFigures,
    SaturatedFigures,
    http_figures,
    median_of,
)
from server.noop import NoopDiffusion, picture
from server.report import Found, report
from server.saturated import figures
from server.tables import tables

from deployments.diffusion.deployment import Diffusion
from deployments.imaging.codecs import decode, encode
from deployments.ingress.openai.answers import ImagesAnswer

ROOT = Path(__file__).parent.parent


def http(p50_ms: float) -> HttpFigures:
    return HttpFigures(p50_ms=p50_ms, p95_ms=2 * p50_ms, p99_ms=3 * p50_ms, rps=1000 / p50_ms)


def saturated(p99_ms: float, *, wrong: int = 0) -> SaturatedFigures:
    return SaturatedFigures(
        healthz_p50_ms=1.0,
        healthz_p99_ms=p99_ms,
        probes=100,
        pictures=9,
        wrong_pictures=wrong,
        failed=0,
    )


FOUND = Found(
    http={
        replicas: {"stepwise": http(11.0), "serve_echo": http(10.0), "fastapi_pydantic": http(14.0)}
        for replicas in (1, 2)
    },
    saturated={
        "stepwise": saturated(50.0),
        "async_def": saturated(900.0),
        "def": saturated(40.0, wrong=4),
    },
    decode=DecodeFigures(msgspec=0.5, pydantic=3.0),
    about={"client_alone": {"p50_ms": 0.1, "p95_ms": 0.2, "p99_ms": 0.3, "rps": 9000.0}},
)


# Figures


def test_a_figure_is_the_median_of_the_rounds() -> None:
    one = http_figures([1.0, 2.0, 3.0, 4.0, 100.0], rps=50.0)
    assert one.p50_ms == 3.0
    assert one.p95_ms == pytest.approx(80.8)
    assert median_of([http(5.0), http(1.0), http(2.0)]) == http(2.0)


def test_bars_are_ratios_at_least_or_at_most() -> None:
    found = list(bars(FOUND.http[1], FOUND.saturated, FOUND.decode))
    assert [(bar.ratio, bar.bar, bar.met) for bar in found] == [
        (pytest.approx(1.1), 1.15, True),
        (18.0, 20.0, False),
        (6.0, 5.0, True),
    ]
    assert list(bars({}, {}, None)) == []


def test_the_report_has_the_shape_that_is_asked_for() -> None:
    found = report(FOUND)
    assert found["http"]["serve_echo"] == {
        "p50_ms": 10.0,
        "p95_ms": 20.0,
        "p99_ms": 30.0,
        "rps": 100.0,
    }
    assert set(found["http"]["two_ingress_replicas"]) == set(FOUND.http[2])
    assert found["healthz_p99_ms_saturated"] == {
        "stepwise": 50.0,
        "async_def": 900.0,
        "def": 40.0,
        "def_wrong_pictures": 4,
    }
    assert found["decode_us"] == {"msgspec": 0.5, "pydantic": 3.0}
    assert [bar["met"] for bar in found["bars"]] == [True, False, True]
    printed = tables(found)
    assert "NOT MET" in printed
    assert "<=  1.15  met" in printed
    assert "the client alone" in printed


def test_parts_that_were_left_out_are_not_reported() -> None:
    found = report(Found(decode=FOUND.decode))
    assert set(found) == {"decode_us", "bars", "about"}
    assert "healthz" not in tables(found)


def test_pictures_are_held_against_those_of_an_idle_service() -> None:
    right = picture(32, 32)
    nearly = encode(decode(right, param="x", max_megapixels=1) + 1, "png", 100)
    wrong = encode(255 - decode(right, param="x", max_megapixels=1), "png", 100)
    answers = [[Answer(200, right), Answer(200, wrong)], [Answer(500, b"no"), Answer(200, nearly)]]
    found = figures([1.0, 3.0], [right, right], answers)
    assert (found.pictures, found.wrong_pictures, found.failed) == (3, 1, 1)
    assert (found.probes, found.healthz_p50_ms) == (2, 2.0)


# Decoding


def test_both_decoders_read_the_same() -> None:
    body = client.body_of_json(added.wish(256))
    read = Generation.model_validate_json(body)
    assert read.model_dump(exclude_unset=True) == added.wish(256)
    for bad in (b'{"n": 1}', b'{"prompt": "a", "promt": "b"}', b'{"prompt": 1}'):
        with pytest.raises(pydantic.ValidationError):
            Generation.model_validate_json(bad)


def test_both_answers_have_the_same_fields() -> None:
    ours = msgspec.structs.fields(ImagesAnswer)
    assert list(Images.model_fields) == [field.name for field in ours if field.required]


def test_decoding_is_measured() -> None:
    found = decoding.measure(added.wish(256), batches=2, per_batch=5)
    assert min(found.msgspec, found.pydantic) > 0


# The client and the load


@asynccontextmanager
async def answering(answers: list[bytes]) -> AsyncIterator[int]:
    """A service that gives these in turn, the last one for ever."""
    asked = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answers[min(asked, len(answers) - 1)])
                asked += 1
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(connected, client.HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy"


def test_the_client_reads_whole_answers_and_refuses_what_it_cannot() -> None:
    async def run() -> None:
        async with answering([OK, BUSY, b"HTTP/1.1 200 OK\r\n\r\n"]) as port:
            target = client.get(port, "/")
            async with await client.Connection.open(port) as connection:
                assert await connection.ask(target.request) == Answer(200, b"ok")
                with pytest.raises(Refused, match=r"503.*busy"):
                    client.body_of(await connection.ask(target.request))
                with pytest.raises(ValueError, match="without content-length"):
                    await connection.ask(target.request)

    asyncio.run(run())


def test_a_service_is_ready_after_successes_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "READY_PAUSE_S", 0.0)

    async def run() -> None:
        async with answering([OK, BUSY, OK]) as port:
            await load.until_ready(client.get(port, "/"), in_a_row=2)
        monkeypatch.setattr(load, "READY_TIMEOUT_S", 0.0)
        async with answering([BUSY]) as port:
            with pytest.raises(Refused, match="not ready"):
                await load.until_ready(client.get(port, "/"), in_a_row=1)

    asyncio.run(run())


def test_loads_ask_as_often_as_they_say() -> None:
    async def run() -> None:
        async with answering([OK]) as port:
            target = client.get(port, "/")
            assert len(await load.one_by_one(target, 3)) == 3
            assert await load.closed_loop(target, 5, connections=2) > 0
            latencies_ms, answers = await load.probed_under_load(
                target, [target, target], seconds=0.05, every_s=0.01
            )
        assert len(latencies_ms) == 5
        assert [set(each) for each in answers] == [{Answer(200, b"ok")}] * 2

    asyncio.run(run())


def test_a_child_answers_and_ends_with_the_block() -> None:
    with child.running("server.floor", "7") as port:
        assert asyncio.run(client.ask(client.get(port, "/"))) == Answer(200, bytes(7))
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(client.ask(client.get(port, "/")))


def test_a_child_that_does_not_start_says_why() -> None:
    with (
        pytest.raises(RuntimeError, match="invalid literal for int"),
        child.running("server.floor", "seven"),
    ):
        pass


# The no-op engine


def test_the_noop_offers_what_the_engine_offers_to_others() -> None:
    def methods(room: type) -> set[str]:
        return {name for name in vars(room) if not name.startswith("_")}

    of_serve = {"check_health", "record_autoscaling_stats", "record_routing_stats"}
    assert methods(NoopDiffusion) == methods(Diffusion) - of_serve - {"stats"}


# All of it


@pytest.mark.slow
def test_a_tiny_benchmark_has_every_figure(tmp_path: Path) -> None:
    """In a process of its own: a Ray of the other tests may run in this one."""
    path = tmp_path / "figures.json"
    arguments = ["--rounds", "1", "--requests", "3", "--connections", "2", "--side", "64"]
    arguments += ["--seconds", "1", "--in-flight", "2", "--probes-per-s", "5", "--threads", "1"]
    subprocess.run(
        [sys.executable, "scripts/bench_server.py", *arguments, "--json", str(path)],
        cwd=ROOT,
        check=True,
    )
    found = json.loads(path.read_text())

    one = {name for name in found["http"] if name != "two_ingress_replicas"}
    assert one == {"stepwise", "serve_echo", "fastapi_pydantic"}
    for systems in (found["http"], found["http"]["two_ingress_replicas"]):
        for name in one:
            assert min(systems[name][key] for key in ("p50_ms", "p95_ms", "p99_ms", "rps")) > 0
    for name in ("stepwise", "async_def", "def"):
        assert found["healthz_p99_ms_saturated"][name] > 0
    for name in ("stepwise", "async_def"):
        each = found["saturated"][name]
        assert each["pictures"] >= 2, name
        assert (each["wrong_pictures"], each["failed"]) == (0, 0), name
    assert len(found["bars"]) == 3
    assert found["about"]["answer_bytes"] > found["about"]["picture_bytes"]
