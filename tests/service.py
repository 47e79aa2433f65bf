"""A running service for tests: real Ray Serve on this machine, on a free port."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from ray import serve
from ray.serve.handle import DeploymentHandle
from server.child import free_port
from server.serving import local_args, running_serve

from deployments.diffusion.stats import EngineStats
from serve_app.app import build

ROOT = Path(__file__).parent.parent
APP = "stepwise"
WAIT_S = 60


@dataclass(frozen=True)
class Service:
    """Where it and Ray's metrics listen, and its engine's counters."""

    url: str
    metrics_port: int

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
    metrics_port = free_port()
    with running_serve(metrics_port) as port:
        serve.run(build(local_args()), name=APP, route_prefix="/")
        yield Service(f"http://127.0.0.1:{port}", metrics_port)
