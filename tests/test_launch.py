"""`scripts/run` as a newcomer uses it, and the README's blocks, one after the other."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from PIL import Image
from server.child import free_port

from tests.service import ROOT

README = (ROOT / "README.md").read_text()
ENVIRONMENT = {**os.environ, "RAY_AUTH_MODE": "disabled"}


@dataclass(frozen=True)
class Launched:
    """A service started by `scripts/run`, its port, and what it said until it was ready."""

    process: subprocess.Popen[str]
    port: int
    said: str


def launch(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["scripts/run", *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def launched() -> Iterator[Launched]:
    port = free_port()
    process = launch("--port", str(port))
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C stops everything" in line:
            break
    else:
        pytest.fail(f"it ended before it was ready: {said}")
    yield Launched(process, port, said)
    process.kill()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_it_says_what_it_does_and_what_to_try(launched: Launched) -> None:
    for words in ("starting Ray", "diffusion-embedded: ready", "Stepwise is ready at", "curl "):
        assert words in launched.said
    assert "Traceback" not in launched.said


def test_the_readmes_curl_gives_a_picture(launched: Launched, tmp_path: Path) -> None:
    assert README[: README.index("curl")].count("\n") < 25
    start, curl, *_ = blocks("bash")
    assert start.startswith("scripts/run ")
    told = re.search(r"curl (.*\\\n.*)\n", launched.said)
    assert told is not None
    told_by_readme = re.search(r"curl (.*\\\n.*)\n", curl)
    assert told_by_readme is not None
    assert told[1].split() == told_by_readme[1].replace("8000", str(launched.port)).split()
    command = curl.replace("8000", str(launched.port))
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
    with Image.open(tmp_path / "house.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (256, 256))


def test_a_second_service_on_the_port_is_refused_with_the_cure(launched: Launched) -> None:
    second = launch("--port", str(launched.port))
    try:
        said, _ = second.communicate(timeout=120)
    finally:
        second.terminate()  # one that started after all would be in the way of every other test
    assert second.returncode != 0
    assert f"try --port {launched.port + 1}" in said


def test_sigterm_ends_everything_it_started(launched: Launched) -> None:
    started = psutil.Process(launched.process.pid).children(recursive=True)
    assert any("raylet" in process.name() for process in started)
    launched.process.terminate()
    said, _ = launched.process.communicate(timeout=120)
    assert said.strip().endswith("stopped")
    assert launched.process.returncode == 0
    assert not [process for process in started if process.is_running()]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", launched.port))


def test_ctrl_c_while_it_starts_ends_everything_too() -> None:
    process = launch("--port", str(free_port()))
    assert process.stdout is not None
    for line in process.stdout:
        if "ingress: starting" in line:
            break
    started = psutil.Process(process.pid).children(recursive=True)
    assert any("raylet" in each.name() for each in started)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    said, _ = process.communicate(timeout=120)
    assert said.strip().endswith("stopped"), said
    assert "Traceback" not in said
    assert not [each for each in started if each.is_running()]


def test_an_unknown_config_is_named() -> None:
    process = launch("--config", "configs/nowhere.yaml")
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "configs/nowhere.yaml: no such file" in said


@pytest.mark.parametrize(
    ("right", "wrong"), [("default_guidance", "default_guidence"), ("host", "hots")]
)
def test_a_wrong_config_says_the_key_and_starts_nothing(
    right: str, wrong: str, tmp_path: Path
) -> None:
    config = (ROOT / "configs" / "local.yaml").read_text()
    path = tmp_path / "wrong.yaml"
    path.write_text(config.replace(f"{right}:", f"{wrong}:"))
    process = launch("--config", str(path), "--port", str(free_port()))
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"--config {path}: " in said
    assert f"did you mean '{right}'?" in said
    assert "starting Ray" not in said
    assert "Traceback" not in said


def test_a_config_can_be_checked_without_a_start() -> None:
    process = launch("--config", "configs/production.yaml", "--check")
    said, _ = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, "configs/production.yaml is right\n")
