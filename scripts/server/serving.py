"""Ray Serve on this machine for as long as it is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import yaml
from ray import serve

from .child import free_port
from .client import HOST

CONFIG = Path(__file__).resolve().parent.parent.parent / "configs" / "local.yaml"


@contextmanager
def running_serve(metrics_port: int | None = None) -> Iterator[int]:
    """Starts Ray and Serve's proxy, gives the proxy's port, and ends both.

    With `metrics_port`, Ray's metrics are there, and no older than two seconds.
    """
    os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray writes a token into the home folder
    # Of what replicas tell the autoscaler; Serve's own period is 10 s.
    os.environ["RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S"] = "1"
    port = free_port()
    ray.init(
        address="local",
        num_cpus=8,  # logical, as is the GPU: the replicas of all apps fit
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200_000_000,
        _metrics_export_port=metrics_port,
        # Ray's own period is 10 s.
        _system_config={"metrics_report_interval_ms": 2000} if metrics_port else None,
    )
    try:
        serve.start(proxy_location="HeadOnly", http_options={"host": HOST, "port": port})
        yield port
    finally:
        serve.shutdown()
        ray.shutdown()


def local_args() -> dict[str, Any]:
    """`args` of configs/local.yaml, with replicas that end at once when they are told to."""
    config = yaml.safe_load(CONFIG.read_text())
    args: dict[str, Any] = config["applications"][0]["args"]
    for section in (*args["models"], args["imaging"], args["ingress"], args["jobs"]):
        section["deployment"]["graceful_shutdown_wait_loop_s"] = 0.1
    return args
