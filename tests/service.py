"""A running service for tests: real Ray Serve on this machine, on a free port."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import ray
import yaml
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.diffusion.stats import EngineStats
from serve_app.app import build

ROOT = Path(__file__).parent.parent
APP = "stepwise"
WAIT_S = 60


@dataclass(frozen=True)
class Service:
    """Where it listens, and its engine's counters."""

    url: str

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=WAIT_S)

    def engine(self) -> DeploymentHandle[Any]:
        return serve.get_deployment_handle("diffusion-embedded", APP)

    def stats(self) -> EngineStats:
        stats: EngineStats = self.engine().stats.remote().result(timeout_s=WAIT_S)
        return stats


@contextmanager
def running_service() -> Iterator[Service]:
    """configs/local.yaml, with short grace times so that it ends quickly."""
    os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray writes a token into the home folder
    port = free_port()
    ray.init(
        address="local",
        num_cpus=8,
        num_gpus=1,  # logical: a fraction of a GPU can be asked for on a machine without one
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200_000_000,
    )
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    serve.run(build(local_args()), name=APP, route_prefix="/")
    try:
        yield Service(f"http://127.0.0.1:{port}")
    finally:
        serve.shutdown()
        ray.shutdown()


def local_args() -> dict[str, Any]:
    config = yaml.safe_load((ROOT / "configs" / "local.yaml").read_text())
    args: dict[str, Any] = config["applications"][0]["args"]
    for section in (*args["models"], args["imaging"], args["ingress"]):
        section["deployment"]["graceful_shutdown_wait_loop_s"] = 0.1
    return args


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
