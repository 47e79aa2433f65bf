"""Several models in one app: each its own deployment, chosen by name, at a fraction of one GPU."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import ray
from ray import serve
from server.serving import local_args

from serve_app.app import _with_fraction, build
from serve_app.config import read_config
from tests.driving import drive, driven, pixels, pixels_of
from tests.rows import make_row
from tests.service import WAIT_S, Service
from tests.tiny_families import save_stable_diffusion, save_xl
from tests.tiny_model import open_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    save_stable_diffusion(folder / "sd")
    save_xl(folder / "xl")
    return {name: folder / name for name in ("sd", "xl")}


def args_of(folders: dict[str, Path]) -> dict[str, Any]:
    """Two models, each on half of the one GPU that Ray believes this machine to have."""
    args = local_args()
    [local] = args["models"]
    args["models"] = [
        {
            "settings": {"id": name, "source": str(folder), "lane_buckets": [1, 2]},
            "deployment": {**local["deployment"], "num_gpus": 0.5},
        }
        for name, folder in folders.items()
    ]
    return args


@pytest.fixture(scope="module")
def two(service: Service, folders: dict[str, Path]) -> Iterator[httpx.Client]:
    serve.run(build(args_of(folders)), name="two", route_prefix="/two")
    with httpx.Client(base_url=f"{service.url}/two", timeout=WAIT_S) as client:
        yield client
    serve.delete("two")


def test_both_share_the_gpu_and_are_served_by_name(
    two: httpx.Client, folders: dict[str, Path]
) -> None:
    assert ray.available_resources().get("GPU", 0) == 0
    assert [each["id"] for each in two.get("/v1/models").json()["data"]] == ["sd", "xl"]
    for name, folder in folders.items():
        body = {"model": name, "prompt": "a red house", "seed": 3, "num_inference_steps": 6}
        answer = two.post("/v1/images/generations", json={**body, "guidance_scale": 3.0})
        assert answer.status_code == 200, answer.text
        content = base64.b64decode(answer.json()["data"][0]["b64_json"])
        family = open_model(folder)
        with driven(family) as engine:
            future = engine.submit(make_row(seed=3, scheduler=family.scheduler_name))
            drive(engine, [future])
        expected = pixels(future.result())
        assert np.abs(pixels_of(content) - expected).max() <= 1, name


def test_a_replica_is_told_its_fraction(folders: dict[str, Path]) -> None:
    args = args_of(folders)
    args["models"][1]["deployment"]["num_gpus"] = 1
    first, second = read_config(args).models
    assert _with_fraction(first).memory_fraction == 0.5
    assert _with_fraction(second).memory_fraction == 1
