"""Progress, interrupt and skip on AUTOMATIC1111's routes: of each caller's own jobs."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import httpx
import pytest

from deployments.ingress.routes import build_app
from deployments.ingress.settings import AuthSettings, IngressSettings
from deployments.jobs.ledger import Ledger
from deployments.jobs.settings import JobsSettings
from deployments.requests import (
    GenerationRequest,
    ImageResult,
    Progress,
)
from tests.ingress_backend import OneColour, colour_of
from tests.sdapi import PROMPT, Served, opened


class Held(Served):
    """The second row of a request stops half-way; `held` then knows of one more request."""

    def __init__(self) -> None:
        super().__init__()
        self.held = asyncio.Semaphore(0)
        self.jobs = Ledger(self.half_way, JobsSettings())

    async def half_way(
        self, request: GenerationRequest, *, previews: int, patience_s: float
    ) -> AsyncGenerator[Progress | ImageResult]:
        second = request.rows[1].id
        async with aclosing(self.watch(request, previews=previews)) as told:
            async for each in told:
                if isinstance(each, Progress) and each.row_id == second and each.call == 6:
                    self.held.release()
                    await asyncio.Event().wait()
                yield each


TWO = {**PROMPT, "seed": 7, "batch_size": 2, "steps": 10}


@asynccontextmanager
async def served(
    backend: OneColour, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Clients of two API keys, ann's and bob's."""
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("ann", "bob")}
    monkeypatch.setenv("KEYS", ",".join(f"{name}:{each}" for name, each in hashes.items()))
    app = build_app(backend, IngressSettings(auth=AuthSettings(keys_env="KEYS")))

    def client(key: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),
            base_url="http://ingress/sdapi/v1",
            headers={"authorization": f"Bearer {key}"},
        )

    async with client("ann") as ann, client("bob") as bob:
        yield ann, bob


IDLE = {
    "progress": 0.0,
    "eta_relative": 0.0,
    "state": {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": "",
        "job_count": 0,
        "job_no": 0,
        "job_timestamp": "0",
        "sampling_step": 0,
        "sampling_steps": 0,
    },
    "current_image": None,
    "textinfo": None,
}


def test_progress_and_interrupt_are_the_callers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        backend = Held()
        async with served(backend, monkeypatch) as (ann, bob):
            running = asyncio.create_task(ann.post("/txt2img", json=TWO))
            await backend.held.acquire()

            # 1. Its caller sees how far it is; nobody else sees anything.
            seen = (await ann.get("/progress")).json()
            assert set(seen) == set(IDLE)
            assert seen["progress"] == 15 / 20
            assert (seen["state"]["job_count"], seen["state"]["job_no"]) == (2, 1)
            assert (seen["state"]["sampling_step"], seen["state"]["sampling_steps"]) == (15, 20)
            assert opened(seen["current_image"]).format == "JPEG"
            asked = "/progress?skip_current_image=true"
            assert (await ann.get(asked)).json()["current_image"] is None
            assert (await bob.get("/progress")).json() == IDLE

            # 2. Nobody else can end it; its caller can, and gets what is done.
            assert (await bob.post("/interrupt")).json() == {}
            assert (await ann.get("/progress")).json()["state"]["job_count"] == 2
            assert (await ann.post("/interrupt")).json() == {}
            assert (await ann.get("/progress")).json() == IDLE
            answer = await running
            assert answer.status_code == 200
            (picture,) = answer.json()["images"]
            assert opened(picture).getpixel((0, 0)) == colour_of(7)
            info = json.loads(answer.json()["info"])
            assert (info["interrupted"], info["all_seeds"]) == (True, [7])
            assert backend.closed == 1

    asyncio.run(run())


def test_skip_ends_the_oldest_job_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        backend = Held()
        async with served(backend, monkeypatch) as (ann, _):
            first = asyncio.create_task(ann.post("/txt2img", json=TWO))
            await backend.held.acquire()
            second = asyncio.create_task(ann.post("/txt2img", json={**TWO, "seed": 70}))
            await backend.held.acquire()
            assert (await ann.post("/skip")).json() == {}
            assert json.loads((await first).json()["info"])["seed"] == 7
            assert (await ann.get("/progress")).json()["state"]["job_count"] == 2
            await ann.post("/interrupt")
            assert json.loads((await second).json()["info"])["seed"] == 70

    asyncio.run(run())


def test_a_client_that_goes_away_ends_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        backend = Held()
        async with served(backend, monkeypatch) as (ann, _):
            running = asyncio.create_task(ann.post("/txt2img", json=TWO))
            await backend.held.acquire()
            running.cancel()
            await asyncio.wait([running])
            assert (await ann.get("/progress")).json() == IDLE
            assert backend.closed == 1

    asyncio.run(run())


def test_a_request_id_that_comes_twice_is_no_old_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with served(Served(), monkeypatch) as (ann, _):
            for seed in (7, 8):
                sent = {**PROMPT, "seed": seed}
                answer = await ann.post("/txt2img", json=sent, headers={"x-request-id": "same"})
                assert json.loads(answer.json()["info"])["seed"] == seed

    asyncio.run(run())
