"""A Ray cluster of several nodes on this machine: a head without work, and workers.

Every worker has an HTTP proxy of its own, and in a fleet a logical GPU.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import ray
import yaml
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve._private.common import ReplicaState
from server.child import free_port
from server.client import HOST

from serve_app.app import build

APP = "stepwise"
CONFIG = Path(__file__).resolve().parent.parent.parent / "configs" / "local.yaml"
WORKERS = 3
POLL_S = 0.05
PATIENCE_S = 180.0


class Worker:
    """A node that can be lost."""

    def __init__(
        self, cluster: Cluster, *, num_cpus: int = 6, num_gpus: int = 1, pool: str = "gpu"
    ) -> None:
        self.port = free_port()
        """Of its HTTP proxy."""
        # Ray hands its environment on to what runs on the node; Serve's proxy reads it there.
        os.environ["RAY_SERVE_WORKER_PROXY_HTTP_PORT"] = str(self.port)
        self._node = cluster.add_node(
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            labels={"stepwise.io/pool": pool},
            object_store_memory=150_000_000,
        )

    @property
    def node_id(self) -> str:
        """Ray's."""
        found: str = self._node.node_id
        return found

    def processes(self) -> list[psutil.Process]:
        """All that runs on it: its raylet, and what that has started."""
        [raylet] = self._node.all_processes["raylet"]
        first = psutil.Process(raylet.process.pid)
        return [first, *first.children(recursive=True)]

    def kill(self) -> None:
        """As a node that loses its power: nothing on it hears of it."""
        lost = self.processes()
        for process in lost:
            process.kill()
        psutil.wait_procs(lost, timeout=PATIENCE_S)


class Fleet:
    """The cluster and the application on it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.workers = [Worker(cluster) for _ in range(WORKERS)]
        self._version = 0
        self._journal = TemporaryDirectory(prefix="stepwise-jobs-")

    def deploy(self, *, replicas: int = WORKERS) -> None:
        """Runs the application, or brings it to so many replicas of the model and of imaging;
        returns when Serve says that it is done."""
        args = _args(replicas, self._version, self._journal.name)
        serve.run(build(args), name=APP, route_prefix="/")

    def update(self) -> None:
        """The same with a config that replaces every replica of the model and of the ingress."""
        self._version += 1
        self.deploy()

    def add_worker(self) -> None:
        """One more node."""
        self.workers.append(Worker(self._cluster))

    def lose(self, worker: Worker) -> None:
        """Kills it, and knows it no more."""
        worker.kill()
        self.workers.remove(worker)

    def wait_until_whole(self, replicas: int = WORKERS) -> None:
        """Until so many replicas of the model and of imaging run, and no others are ending."""
        wait_until(lambda: all(_states(name) == replicas for name in (MODEL, "imaging")))
        wait_until(lambda: (_states("ingress"), _states("jobs")) == (WORKERS, 1))

    def controller(self) -> psutil.Process | None:
        """The process of Serve's controller, which runs on the head; None while there is none."""
        head: Any = self._cluster.head_node
        [raylet] = head.all_processes["raylet"]
        started = psutil.Process(raylet.process.pid).children(recursive=True)
        return next((each for each in started if each.name().startswith("ray::ServeContr")), None)


MODEL = "diffusion-embedded"


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Starts a head without work and Serve on it, and ends both."""
    os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray writes a token into the home folder
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False},
    )
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        http = {"host": HOST, "port": free_port()}
        serve.start(proxy_location="EveryNode", http_options=http)
        yield cluster
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


@contextmanager
def running_fleet() -> Iterator[Fleet]:
    """A fleet with the application on it."""
    with running_cluster() as cluster:
        fleet = Fleet(cluster)
        fleet.deploy()
        fleet.wait_until_whole()
        yield fleet


def replicas_on(worker: Worker) -> list[str]:
    """The deployment of every replica there."""
    client: Any = serve.context._get_global_client()
    details = client.get_serve_details()
    deployments = details["applications"][APP]["deployments"]
    return [
        name
        for name, deployment in deployments.items()
        for replica in deployment["replicas"]
        if replica["node_id"] == worker.node_id
    ]


def logged(words: str) -> int:
    """Lines of the replicas' logs, of all nodes, that have these words."""
    driver: Any = ray._private.worker.global_worker
    folder = Path(driver.node.get_logs_dir_path()) / "serve"
    return sum(file.read_text(errors="replace").count(words) for file in folder.glob("*.log"))


def wait_until(condition: Callable[[], bool]) -> None:
    """Raises TimeoutError when it does not come to that."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {PATIENCE_S:g} s: {serve.status()}")
        time.sleep(POLL_S)


def _states(name: str) -> int:
    """Replicas that run, or -1 while some start or end."""
    states: Mapping[Any, int] = serve.status().applications[APP].deployments[name].replica_states
    running = states.get(ReplicaState.RUNNING, 0)
    return running if running == sum(states.values()) else -1


def _args(replicas: int, version: int, journal: str) -> dict[str, Any]:
    """`args` of configs/local.yaml with a replica of each kind per worker."""
    args: dict[str, Any] = yaml.safe_load(CONFIG.read_text())["applications"][0]["args"]
    [model], imaging, ingress = args["models"], args["imaging"], args["ingress"]
    model["settings"] |= {"threads": 1, "max_queue_s": 40 + version}
    model["deployment"] |= {"num_replicas": replicas, "num_cpus": 1, "num_gpus": 1}
    imaging["deployment"] |= {"num_replicas": replicas, "num_cpus": 1}
    ingress["deployment"] |= {
        "num_replicas": WORKERS,
        "num_cpus": 1,
        "max_replicas_per_node": 1,
    }
    # A secret that is drawn at every deploy would replace the ingress at every one.
    ingress["settings"] |= {"max_body_mb": 60 + version, "results": {"secret": "s" * 32}}
    # Which nobody reaches: with it every request asks the ledger first.
    ingress["settings"]["limits"] = {"max_rows_in_flight": 1000}
    args["jobs"]["settings"] = {"journal": journal}
    return args
