"""The whole graph over HTTP: ingress, imaging and the embedded model on real Ray Serve."""

import base64
import io
import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image

from deployments.diffusion.stats import EngineStats
from tests.bad_inputs import BAD_INPUTS
from tests.service import Service

SCHEDULERS = [
    "EulerDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "DDIMScheduler",
]
PROMPT = "a red house on green hills at day"


def picture(encoded: str) -> NDArray[np.int16]:
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    return np.asarray(image.convert("RGB")).astype(np.int16)


def generate(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/images/generations", json={"prompt": PROMPT, **body})
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def photograph(*, side: int = 300) -> Image.Image:
    """Smooth structure plus noise, as photographs have, with a bright disc on the left."""
    y, x = np.mgrid[0:side, 0:side] / side
    channels = [np.sin(3 * x + y), np.cos(2 * y - x), x * y]
    pixels = np.stack(channels, -1) * 90 + 128
    pixels[(x - 0.25) ** 2 + (y - 0.5) ** 2 < 0.02] = (240, 220, 40)
    pixels += np.random.default_rng(0).normal(0, 2, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def edit(client: httpx.Client, image: bytes, mask: bytes | None = None, **fields: str) -> Any:
    files = {"image": ("image", image)} | ({"mask": ("mask", mask)} if mask else {})
    form = {"prompt": PROMPT, "seed": "3", "size": "256x256", **fields}
    answer = client.post("/v1/images/edits", data=form, files=files)
    assert answer.status_code == 200, answer.text
    return picture(answer.json()["data"][0]["b64_json"])


def test_health_and_models(service: Service) -> None:
    with service.client() as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        models = client.get("/v1/models").json()
    assert [model["id"] for model in models["data"]] == ["embedded"]


def test_a_picture_with_the_seed_that_made_it(service: Service) -> None:
    with service.client() as client:
        first = generate(client)["data"][0]
        again = generate(client, seed=first["seed"])["data"][0]
    assert picture(first["b64_json"]).shape == (256, 256, 3)
    assert first["b64_json"] == again["b64_json"]


def test_n_pictures_have_consecutive_seeds(service: Service) -> None:
    with service.client() as client:
        three = generate(client, n=3, seed=41, num_inference_steps=4)["data"]
        second = generate(client, seed=42, num_inference_steps=4)["data"][0]
    assert [each["seed"] for each in three] == [41, 42, 43]
    difference = picture(three[1]["b64_json"]) - picture(second["b64_json"])
    assert np.abs(difference).max() <= 1


def test_eight_unlike_requests_share_one_running_batch(service: Service) -> None:
    bodies = [
        {
            "seed": seed,
            "num_inference_steps": steps,
            "scheduler": SCHEDULERS[seed % 4],
            "guidance_scale": (1.0, 3.0, 7.5)[seed % 3],
        }
        for seed, steps in enumerate((8, 20, 30, 50, 8, 20, 30, 50))
    ]
    with service.client() as client, ThreadPoolExecutor(8) as pool:
        alone = [generate(client, **body) for body in bodies]
        before = service.stats()
        together = list(pool.map(lambda body: generate(client, **body), bodies))
        after = service.stats()
    assert after.row_steps - before.row_steps == 216  # every row took its own steps
    assert after.steps - before.steps < 216 / 2  # and shared more than half of them
    for batched, single in zip(together, alone, strict=True):
        difference = picture(batched["data"][0]["b64_json"]) - picture(
            single["data"][0]["b64_json"]
        )
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_strength_says_how_much_of_the_image_stays(service: Service, kind: str) -> None:
    image = encoded(photograph(), kind)
    with service.client() as client:
        slightly = edit(client, image, strength="0.3")
        strongly = edit(client, image, strength="0.9")
    original = np.asarray(photograph().resize((256, 256))).astype(np.int16)
    assert np.abs(slightly - original).mean() < 0.7 * np.abs(strongly - original).mean()


def test_a_mask_keeps_what_it_does_not_open(service: Service) -> None:
    alpha = Image.new("L", (300, 300), 255)
    alpha.paste(0, (150, 0, 300, 300))
    mask = photograph().convert("RGBA")
    mask.putalpha(alpha)
    with service.client() as client:
        result = edit(client, encoded(photograph(), "PNG"), encoded(mask, "PNG"), strength="0.9")
        whole = edit(client, encoded(photograph(), "PNG"), strength="0.05")
    left, right = slice(0, 120), slice(140, 256)
    original = np.asarray(photograph().resize((256, 256), Image.Resampling.BOX)).astype(np.int16)
    assert np.abs(result[:, left] - original[:, left]).mean() < 3
    assert np.abs(result[:, right] - whole[:, right]).mean() > 10


def test_bad_input_is_the_clients_error_and_the_service_goes_on(service: Service) -> None:
    assert len(BAD_INPUTS) >= 300
    [ingress] = replicas("ingress")
    used_mb = []
    with service.client() as client:
        for _ in range(3):
            for case in BAD_INPUTS:
                url, kind = case.url("embedded"), case.headers
                case.check(client.request(case.method, url, content=case.content, headers=kind))
            # Without what it shares: pages of Ray's object store stay mapped.
            used_mb.append(ingress.memory_full_info().uss / 1e6)
        assert generate(client, num_inference_steps=2)["data"]
    # Once caches are full, less than a single one of the bodies, the largest of which has 21 MB.
    assert used_mb[-1] - used_mb[0] < 15, used_mb


def test_an_image_that_only_imaging_can_refuse_is_a_400(service: Service) -> None:
    whole = encoded(photograph(), "PNG")
    with service.client() as client:
        files = {"image": ("image", whole[: len(whole) // 2])}
        answer = client.post("/v1/images/edits", data={"prompt": PROMPT}, files=files)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "image"


def test_a_scheduler_that_cannot_run_the_steps_is_a_400(service: Service) -> None:
    body = {"prompt": PROMPT, "scheduler": "LCMScheduler", "num_inference_steps": 60}
    with service.client() as client:
        answer = client.post("/v1/images/generations", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "scheduler"


def test_a_client_that_goes_away_frees_its_lanes(service: Service) -> None:
    before = service.stats()
    body = json.dumps({"prompt": PROMPT, "num_inference_steps": 150, "n": 8}).encode()
    head = (
        "POST /v1/images/generations HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
    )
    address = service.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: is_busy(service.stats(), rows=8))
    until(lambda: service.stats().cancelled == before.cancelled + 8)
    after = service.stats()
    assert (after.running, after.waiting, after.finished) == (0, 0, before.finished)


def test_a_stream_shows_early_and_ends_with_its_reader(service: Service) -> None:
    before = service.stats()
    body = {"prompt": PROMPT, "stream": True, "partial_images": 3, "num_inference_steps": 120}
    with (
        service.client() as client,
        client.stream("POST", "/v1/images/generations", json=body) as answer,
    ):
        events = (line for line in answer.iter_lines() if line.startswith("event: "))
        assert next(events) == "event: image_generation.partial_image"
        shown = service.stats()
    assert shown.row_steps - before.row_steps < 60, "the first partial came after half of the run"
    until(lambda: service.stats().cancelled == before.cancelled + 1)
    after = service.stats()
    assert (after.running, after.finished) == (0, before.finished)
    assert after.row_steps - before.row_steps < 120


def is_busy(stats: EngineStats, *, rows: int) -> bool:
    """How many of them run at once depends on the machine."""
    return stats.running > 0 and stats.running + stats.waiting == rows


def until(condition: Callable[[], bool]) -> None:
    """Asks again and again; each question takes a round trip of some milliseconds."""
    assert any(condition() for _ in range(5000)), "it did not come to that"


def test_kill_9_of_the_idle_diffusion_replica_needs_no_help(service: Service) -> None:
    [replica] = replicas("diffusion-embedded")
    replica.kill()
    replica.wait()
    with service.client() as client:
        assert generate(client, num_inference_steps=2)["data"]
    [successor] = replicas("diffusion-embedded")
    assert successor.pid != replica.pid


def replicas(deployment: str) -> list[psutil.Process]:
    """Ray names a replica's process after its app and deployment."""
    name = f"ray::ServeReplica:stepwise:{deployment}"
    processes = psutil.process_iter(["cmdline"])
    return [each for each in processes if name in " ".join(each.info["cmdline"] or ())]
