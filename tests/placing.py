"""Run by test_placement.py: where replicas come to lie on nodes of two kinds, as JSON in a file.

Ray writes to the standard output too.
"""

import json
import sys
from pathlib import Path
from typing import Any

from fleet.cluster import APP, Worker, replicas_on, running_cluster, wait_until
from ray import serve
from ray.serve._private.common import ReplicaState

from serve_app.app import build
from tests.service import ROOT

REPLICAS = 4


def args() -> dict[str, Any]:
    """Replicas of half a GPU on the nodes of one pool, and all else on the other's."""
    on_gpus, on_cpus = ({"label_selector": {"stepwise.io/pool": pool}} for pool in ("gpu", "cpu"))
    pace = ROOT / "configs" / "paces" / "h100-sd15.json"
    return {
        "models": [
            {
                "settings": {"id": "paced", "source": "paced", "pace": str(pace)},
                "deployment": {
                    "num_replicas": REPLICAS,
                    "num_cpus": 1,
                    "num_gpus": 0.5,
                    **on_gpus,
                },
            }
        ],
        "imaging": {"deployment": {"num_replicas": 2, **on_cpus}},
        "ingress": {
            "deployment": {"num_replicas": 2, "graceful_shutdown_timeout_s": 120, **on_cpus}
        },
        "jobs": {"deployment": on_cpus},
    }


def running() -> int:
    states = serve.status().applications[APP].deployments["diffusion-paced"].replica_states
    return states.get(ReplicaState.RUNNING, 0)


with running_cluster() as cluster:
    workers = {
        "gpu-1": Worker(cluster, num_cpus=8),
        "gpu-2": Worker(cluster, num_cpus=8),
        "cpu-1": Worker(cluster, num_cpus=8, num_gpus=0, pool="cpu"),
    }
    serve.run(build(args()), name=APP, route_prefix="/")
    wait_until(lambda: running() == REPLICAS)
    placed = {name: sorted(replicas_on(worker)) for name, worker in workers.items()}
    Path(sys.argv[1]).write_text(json.dumps(placed))
