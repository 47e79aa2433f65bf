"""Replicas on a real Serve follow the work, with an engine that keeps a GPU's time."""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from ray import serve
from ray.serve._private.common import ReplicaState
from server.serving import local_args

from deployments.diffusion.families.paced import Paced, read_pace
from serve_app.app import build
from tests.driving import drive, driven, pixels, pixels_of
from tests.rows import make_row
from tests.service import WAIT_S, Service
from tests.test_service import until

PACE = Path(__file__).parent.parent / "configs" / "paces" / "h100-sd15.json"
CALLERS = 80
"""Of 50 steps each: always 14 s of work of one replica, until the others have started."""


def args(min_replicas: int) -> dict[str, Any]:
    found = local_args()
    [local] = found["models"]
    found["models"] = [
        {
            "settings": {"id": "paced", "source": "paced", "pace": str(PACE), "max_queue_s": 50},
            "deployment": {
                **{k: v for k, v in local["deployment"].items() if k != "num_replicas"},
                "target_wait_s": 2,
                "autoscaling_config": {
                    "min_replicas": min_replicas,
                    "max_replicas": 3,
                    "look_back_period_s": 2,
                    "upscale_delay_s": 1,
                    "downscale_delay_s": 5,
                },
            },
        }
    ]
    return found


@pytest.fixture(params=[1])
def fleet(service: Service, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """Its parameter is the fewest replicas that there may be."""
    serve.run(build(args(request.param)), name="fleet", route_prefix="/fleet")
    with httpx.Client(base_url=f"{service.url}/fleet", timeout=2 * WAIT_S) as client:
        yield client
    serve.delete("fleet")


def replicas() -> int:
    states = serve.status().applications["fleet"].deployments["diffusion-paced"].replica_states
    return states.get(ReplicaState.RUNNING, 0)


def wait_for(wanted: int) -> None:
    """Serve's own controller decides every tenth of a second; this asks as often as it can."""
    for _ in range(20_000):
        if replicas() == wanted:
            return
    raise AssertionError(f"{replicas()} replicas run; wanted {wanted}")


def ask(fleet: httpx.Client, seed: int) -> httpx.Response:
    body = {"prompt": "x", "seed": seed, "num_inference_steps": 50, "size": "512x512"}
    return fleet.post("/v1/images/generations", json=body)


def is_right(answer: httpx.Response, seed: int) -> bool:
    """The picture that the engine makes of the same row."""
    content = base64.b64decode(answer.json()["data"][0]["b64_json"])
    with driven(Paced(read_pace(PACE))) as engine:
        row = make_row(
            seed=seed,
            width=512,
            height=512,
            num_inference_steps=50,
            guidance_scale=7.5,
            scheduler="EulerDiscreteScheduler",
        )
        future = engine.submit(row)
        drive(engine, [future])
    return bool((pixels_of(content) == pixels(future.result())).all())


@pytest.mark.slow
def test_replicas_follow_the_work_and_nothing_is_lost(fleet: httpx.Client) -> None:
    wait_for(1)

    enough = Event()

    def ask_on(seed: int) -> list[httpx.Response]:
        # A client each: one that many threads share loses connections now and then.
        with httpx.Client(base_url=fleet.base_url, timeout=fleet.timeout) as client:
            answers = [ask(client, seed)]
            while not enough.is_set():
                answers.append(ask(client, seed))
        return answers

    with ThreadPoolExecutor(CALLERS) as callers:
        asked = [callers.submit(ask_on, seed) for seed in range(CALLERS)]
        try:
            wait_for(3)
        finally:
            enough.set()
        assert {answer.status_code for each in asked for answer in each.result()} == {200}
    wait_for(1)
    assert is_right(asked[7].result()[0], 7)


@pytest.mark.slow
@pytest.mark.parametrize("fleet", [0], indirect=True)
def test_a_model_that_nobody_asks_has_no_replica_until_somebody_does(fleet: httpx.Client) -> None:
    until(lambda: fleet.get("/readyz").is_success)  # which starts one: before, it is not known
    for seed in (7, 8):
        wait_for(0)
        answer = ask(fleet, seed)
        assert answer.status_code == 200
        assert is_right(answer, seed)
