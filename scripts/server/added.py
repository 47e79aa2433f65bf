"""What each way to serve adds to an engine that takes no time."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
from ray import serve

from . import child, echo, fastapi_app, load, noop
from .client import Target, ask, body_of, get, post
from .figures import HttpFigures, http_figures, median_of
from .serving import running_serve

PATH = "/v1/images/generations"
WARM_ANSWERS = 50


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    rounds: int
    requests: int
    """One by one, of each service in each round; the closed loop makes twice as many."""
    connections: int
    """Of the closed loop."""
    side: int
    """Of the picture, in pixels."""


def wish(side: int) -> dict[str, Any]:
    """The body of a typical request of an OpenAI client."""
    return {
        "model": "embedded",
        "prompt": "a red house on green hills at day, soft light, a river in the foreground",
        "n": 1,
        "size": f"{side}x{side}",
        "quality": "medium",
        "response_format": "b64_json",
        "output_format": "png",
        "user": "user-1234",
        "seed": 7,
    }


def measure(effort: Effort) -> tuple[dict[int, dict[str, HttpFigures]], dict[str, Any]]:
    """Ingress replicas -> service -> its figures, and the facts that go with them."""
    found = {}
    with running_serve() as port:
        for replicas in (1, 2):
            with _deployed(port, effort.side, replicas) as (services, answer):
                found[replicas] = asyncio.run(_rounds(services, effort))
    with child.running("server.floor", str(len(answer))) as floor:
        alone = asyncio.run(_rounds({"client": get(floor, "/")}, effort))
    about = {
        "picture_bytes": len(_content(answer)),
        "answer_bytes": len(answer),
        "client_alone": msgspec.to_builtins(alone["client"]),
    }
    return found, about


async def _rounds(services: Mapping[str, Target], effort: Effort) -> dict[str, HttpFigures]:
    """Service after service, round after round: a busy moment of the machine falls on all."""
    rounds = defaultdict(list)
    for target in services.values():
        await load.until_ready(target, in_a_row=WARM_ANSWERS)
    for _ in range(effort.rounds):
        for name, target in services.items():
            gc.collect()
            latencies_ms = await load.one_by_one(target, effort.requests)
            rps = await load.closed_loop(
                target, 2 * effort.requests, connections=effort.connections
            )
            rounds[name].append(http_figures(latencies_ms, rps))
    return {name: median_of(each) for name, each in rounds.items()}


@contextmanager
def _deployed(port: int, side: int, replicas: int) -> Iterator[tuple[dict[str, Target], bytes]]:
    """All three on one Serve, and the body that they answer with."""

    def target(prefix: str) -> Target:
        return post(port, f"{prefix}{PATH}", wish(side), accept="*/*")

    try:
        serve.run(
            noop.graph(side=side, ingress_replicas=replicas), name="stepwise", route_prefix="/"
        )
        answer = asyncio.run(_first_answer(target("")))
        serve.run(echo.graph(answer, ingress_replicas=replicas), name="echo", route_prefix="/echo")
        serve.run(
            fastapi_app.graph(_content(answer), ingress_replicas=replicas),
            name="fastapi",
            route_prefix="/fastapi",
        )
        targets = {
            "stepwise": target(""),
            "serve_echo": target("/echo"),
            "fastapi_pydantic": target("/fastapi"),
        }
        yield targets, answer
    finally:
        for app in serve.status().applications:
            serve.delete(app)


async def _first_answer(target: Target) -> bytes:
    await load.until_ready(target, in_a_row=1)
    return body_of(await ask(target))


def _content(answer: bytes) -> bytes:
    return base64.b64decode(json.loads(answer)["data"][0]["b64_json"])
