"""Serve's own commands on the config files, as an operator types them."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil
import pytest
from server.child import free_port

from tests.service import ROOT

BIN = ROOT / ".venv" / "bin"
ENVIRONMENT = {**os.environ, "RAY_AUTH_MODE": "disabled"}
READY_WITHIN_S = 180
DEPLOY_TRIES = 20

pytestmark = pytest.mark.slow


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process and all that it starts, ended afterwards."""
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT)
    try:
        yield process
    finally:
        parent = psutil.Process(process.pid)
        tree = [parent, *parent.children(recursive=True)]
        for each in tree:
            each.terminate()
        psutil.wait_procs(tree, timeout=30)


def config_on(port: int, folder: Path) -> str:
    """configs/local.yaml on another port, so that two tests never meet."""
    text = (ROOT / "configs" / "local.yaml").read_text().replace("port: 8000", f"port: {port}")
    path = folder / "local.yaml"
    path.write_text(text)
    return str(path)


def wait_until_ready(port: int) -> None:
    deadline_s = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline_s:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass  # nobody listens yet
        threading.Event().wait(0.5)
    pytest.fail(f"not ready within {READY_WITHIN_S} s")


def picture(port: int) -> bytes:
    answer = httpx.post(
        f"http://127.0.0.1:{port}/v1/images/generations",
        json={"prompt": "a red house", "num_inference_steps": 4},
        headers={"accept": "image/png"},
        timeout=60,
    )
    assert answer.status_code == 200
    return answer.content


def test_serve_run(tmp_path: Path) -> None:
    port = free_port()
    with started(str(BIN / "serve"), "run", config_on(port, tmp_path)):
        wait_until_ready(port)
        assert picture(port).startswith(b"\x89PNG")


def test_serve_deploy(tmp_path: Path) -> None:
    port, dashboard = free_port(), free_port()
    ports = [f"--port={free_port()}", f"--dashboard-port={dashboard}"]
    # A folder of its own: Ray leaves its address there, and later commands would look it up.
    with (
        TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        started(str(BIN / "ray"), "start", "--head", "--block", f"--temp-dir={folder}", *ports),
    ):
        address = f"http://127.0.0.1:{dashboard}"
        deploy = [str(BIN / "serve"), "deploy", "-a", address, config_on(port, tmp_path)]
        for _ in range(DEPLOY_TRIES):  # until the dashboard is up; a try takes seconds
            deployed = subprocess.run(deploy, cwd=ROOT, env=ENVIRONMENT, check=False)
            if deployed.returncode == 0:
                break
        assert deployed.returncode == 0
        wait_until_ready(port)
        assert picture(port).startswith(b"\x89PNG")
