"""Jobs over HTTP: started at once, told as they run, cancelled, and their caller's alone."""

import asyncio
import base64
import io
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from hashlib import sha256
from typing import Any

import httpx
import msgspec
import pytest
from PIL import Image
from starlette.types import ASGIApp

from deployments.errors import GenerationFailed, ReplicaLost
from deployments.ingress.jobs.wire import JobFields
from deployments.ingress.options import ALIASES
from deployments.ingress.routes import build_app
from deployments.ingress.settings import AuthSettings, IngressSettings
from deployments.jobs.ledger import Ledger
from deployments.jobs.settings import JobsSettings
from deployments.requests import GenerationRequest, ImageResult, JobView, Progress
from tests.ingress_backend import OneColour, app_over, ask, png

JOBS = "/v1/jobs"
PROMPT = {"prompt": "a red house"}
Test = Callable[[httpx.AsyncClient], Awaitable[None]]


class Held(OneColour):
    """Tells of one step, and goes on when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()

    async def watch(
        self, request: GenerationRequest, *, previews: int
    ) -> AsyncGenerator[Progress | ImageResult]:
        async with aclosing(super().watch(request, previews=previews)) as told:
            async for each in told:
                yield each
                self.begun.set()
                await self.gate.wait()


def within(app: ASGIApp, test: Test) -> None:
    """All of a test on one event loop: jobs run in the background of it."""

    async def run() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://ingress") as client:
            await test(client)

    asyncio.run(asyncio.wait_for(run(), 60))


def events_of(answer: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    """(name, data) of every event."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line)
        if "event" in lines:
            found.append((lines["event"], msgspec.json.decode(lines["data"])))
    return found


def test_a_job_is_taken_told_and_answered() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        sent = {**PROMPT, "n": 2, "seed": 7, "steps": 4, "output_format": "webp"}
        started = await client.post(JOBS, json=sent)
        assert started.status_code == 202, started.text
        job = started.json()
        assert (job["object"], job["state"], job["model"]) == ("job", "waiting", "tiny")
        assert (job["images"], job["images_done"], job["data"]) == (2, 0, None)
        assert job["error"] is None

        told = events_of(await client.get(f"{JOBS}/{job['id']}/events"))
        names = [name for name, _ in told]
        assert names[:-1] == ["progress"] * (len(names) - 1)
        assert names[-1] == "succeeded"
        progress = [data["progress"] for name, data in told if name == "progress"]
        assert 0 < max(progress) <= 1
        assert told[-1][1]["progress"] == 1
        assert all(data["data"] is None for _, data in told), "pictures are not repeated in events"

        over = (await client.get(f"{JOBS}/{job['id']}")).json()
        assert (over["state"], over["call"], over["calls"], over["eta_s"]) == ("succeeded", 8, 8, 0)
        assert Image.open(io.BytesIO(base64.b64decode(over["preview"]))).format == "JPEG"
        assert [each["seed"] for each in over["data"]] == [7, 8]
        picture = Image.open(io.BytesIO(base64.b64decode(over["data"][0]["b64_json"])))
        assert (picture.format, picture.size) == ("WEBP", (64, 64))

    within(app_over(OneColour()), test)


def test_a_preview_is_told_once() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        job = (await client.post(JOBS, json={**PROMPT, "steps": 40})).json()
        told = events_of(await client.get(f"{JOBS}/{job['id']}/events"))
        previews = [data["preview"] for _, data in told if data["preview"]]
        assert len(previews) == 1, "all previews of one colour are the same file"

    within(app_over(OneColour()), test)


def test_every_field_reaches_the_row() -> None:
    backend = OneColour()
    image, mask = png(64, 64), png(64, 64, "RGBA")
    sent = {
        **PROMPT,
        "model": "tiny",
        "size": "96x64",
        "image": "data:image/png;base64," + base64.b64encode(image).decode(),
        "mask_image": base64.b64encode(mask).decode(),
        "negative_prompt": "fog",
        "guidance_scale": 2,
        "sampler_name": "DDIMScheduler",
        "denoising_strength": 0.5,
        "output_compression": 0,
        "priority": "low",
    }

    async def test(client: httpx.AsyncClient) -> None:
        started = await client.post(JOBS, json=sent)
        assert started.status_code == 202, started.text
        await client.get(f"{JOBS}/{started.json()['id']}/events")

    within(app_over(backend), test)
    (request,) = backend.asked
    assert (request.image, request.mask) == (image, mask)
    (row,) = request.rows
    assert (row.width, row.height, row.negative_prompt) == (96, 64, "fog")
    assert (row.guidance_scale, row.scheduler, row.strength) == (2.0, "DDIMScheduler", 0.5)
    assert (row.output_compression, row.priority) == (0, "low")


def test_a_running_job_is_cancelled() -> None:
    backend = Held()

    async def test(client: httpx.AsyncClient) -> None:
        url = f"{JOBS}/{(await client.post(JOBS, json={**PROMPT, 'steps': 4})).json()['id']}"
        await backend.begun.wait()
        running = (await client.get(url)).json()
        assert (running["state"], running["call"], running["calls"]) == ("running", 1, 4)
        assert (running["progress"], running["data"]) == (0.25, None)
        assert running["eta_s"] > 0

        gone = await client.delete(url)
        assert (gone.status_code, gone.json()["state"], gone.json()["data"]) == (
            200,
            "cancelled",
            [],
        )
        assert backend.closed == 1
        assert (await client.delete(url)).json()["state"] == "cancelled"
        assert [name for name, _ in events_of(await client.get(f"{url}/events"))] == ["cancelled"]

    within(app_over(backend), test)


@pytest.mark.parametrize(
    ("fields", "headers"),
    [({"id": "mine.1"}, {}), ({}, {"idempotency-key": "mine.1"})],
)
def test_the_same_id_runs_once(fields: dict[str, str], headers: dict[str, str]) -> None:
    backend = OneColour()

    async def test(client: httpx.AsyncClient) -> None:
        for seed in (1, 2):
            sent = {**PROMPT, **fields, "seed": seed}
            job = (await client.post(JOBS, json=sent, headers=headers)).json()
            assert job["id"] == "mine.1"
        await client.get(f"{JOBS}/mine.1/events")
        again = await client.post(JOBS, json={**PROMPT, **fields}, headers=headers)
        assert (again.status_code, again.json()["state"]) == (202, "succeeded")
        assert (await client.get(f"{JOBS}/mine.1")).json()["data"][0]["seed"] == 1

    within(app_over(backend), test)
    assert len(backend.asked) == 1


def test_a_job_is_its_key_s_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("ann", "bob")
    lines = ",".join(f"{name}:{sha256(f'{name}-key'.encode()).hexdigest()}" for name in names)
    monkeypatch.setenv("STEPWISE_TEST_KEYS", lines)
    auth = AuthSettings(keys_env="STEPWISE_TEST_KEYS")
    ann, bob = ({"authorization": f"Bearer {name}-key"} for name in names)
    backend = OneColour()

    async def test(client: httpx.AsyncClient) -> None:
        started = await client.post(JOBS, json={**PROMPT, "id": "a", "seed": 1}, headers=ann)
        assert started.status_code == 202, started.text
        for method, path in (("GET", "a"), ("DELETE", "a"), ("GET", "a/events")):
            answer = await client.request(method, f"{JOBS}/{path}", headers=bob)
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "job_not_found"
        await client.get(f"{JOBS}/a/events", headers=ann)
        await client.post(JOBS, json={**PROMPT, "id": "a", "seed": 2}, headers=bob)
        await client.get(f"{JOBS}/a/events", headers=bob)
        for headers, seed in ((ann, 1), (bob, 2)):
            job = (await client.get(f"{JOBS}/a", headers=headers)).json()
            assert job["data"][0]["seed"] == seed

    within(build_app(backend, IngressSettings(auth=auth)), test)
    assert [request.caller for request in backend.asked] == ["ann", "bob"]


def test_a_failed_job_says_why() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        job_id = (await client.post(JOBS, json=PROMPT)).json()["id"]
        told = events_of(await client.get(f"{JOBS}/{job_id}/events"))
        answer = await client.get(f"{JOBS}/{job_id}")
        assert answer.status_code == 200, "asking worked, the job did not"
        job = answer.json()
        assert (job["state"], job["data"]) == ("failed", [])
        assert job["error"] == {
            "message": "latents are not numbers",
            "type": "server_error",
            "param": None,
            "code": "generation_failed",
        }
        assert told[-1] == ("failed", {**job, "data": None})

    within(app_over(OneColour(failure=GenerationFailed("latents are not numbers"))), test)


def test_a_stream_that_breaks_says_so() -> None:
    class Broken(Ledger):
        async def events(self, caller: str, job_id: str) -> AsyncGenerator[JobView]:
            yield await self.get(caller, job_id)
            raise ReplicaLost("the ledger is gone")

    backend = OneColour()
    backend.jobs = Broken(backend.watch_patiently, JobsSettings())

    async def test(client: httpx.AsyncClient) -> None:
        job_id = (await client.post(JOBS, json=PROMPT)).json()["id"]
        *_, (name, data) = events_of(await client.get(f"{JOBS}/{job_id}/events"))
        assert (name, data["type"]) == ("error", "error")
        assert data["error"]["message"] == "the ledger is gone"

    within(app_over(backend), test)


@pytest.mark.parametrize(
    ("sent", "param", "says"),
    [
        ({}, "prompt", "prompt is missing"),
        ({**PROMPT, "id": "a/b"}, "id", "1 to 64 letters"),
        ({**PROMPT, "id": ""}, "id", "1 to 64 letters"),
        ({**PROMPT, "id": ".."}, "id", "1 to 64 letters"),
        ({**PROMPT, "id": "a" * 65}, "id", "1 to 64 letters"),
        ({**PROMPT, "n": 0}, "n", "n must be from 1 to 10"),
        ({**PROMPT, "size": "64x64", "width": 32}, "width", "do not agree"),
        ({**PROMPT, "steps": 2, "num_inference_steps": 3}, "steps", "same parameter"),
        ({**PROMPT, "image": "https://e.org/a.png"}, "image", "none is fetched"),
        ({**PROMPT, "mask": "aGVsbG8="}, "mask", "without an image"),
        ({**PROMPT, "strength": 0.5}, "strength", "without an image"),
        ({**PROMPT, "stream": True}, "stream", "unknown parameter"),
        ({**PROMPT, "model": "sd"}, "model", "not served here"),
    ],
)
def test_a_bad_job_is_never_taken(sent: dict[str, Any], param: str, says: str) -> None:
    backend = OneColour()
    answer = ask(app_over(backend), "POST", JOBS, json=sent)
    error = answer.json()["error"]
    assert answer.status_code == (404 if param == "model" else 400)
    assert error["param"] == param
    assert says in error["message"]
    assert backend.asked == []


def test_two_ids_for_one_job_are_refused() -> None:
    answer = ask(
        app_over(OneColour()),
        "POST",
        JOBS,
        json={**PROMPT, "id": "a"},
        headers={"idempotency-key": "b"},
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "id")


@pytest.mark.parametrize("job_id", ["unknown", "%20", "a" * 3000])
def test_an_unknown_job_is_a_404(job_id: str) -> None:
    app = app_over(OneColour())
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
        answer = ask(app, method, f"{JOBS}/{job_id}{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")
        assert len(answer.text) < 400


def test_every_alias_is_a_field_of_a_job() -> None:
    assert ALIASES.keys() <= set(JobFields.__struct_fields__)
