"""A fleet of three nodes under load: nothing is lost, whatever happens to it.

In a process of its own: a cluster and the other tests' Ray do not share one.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.service import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of scripts/bench_fleet.py, which raises when an answer was wrong."""
    report: Path = tmp_path_factory.mktemp("fleet") / "fleet.json"
    command = [sys.executable, "scripts/bench_fleet.py", "--json", str(report)]
    tried = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert tried.returncode == 0, tried.stdout + tried.stderr
    loaded: dict[str, Any] = json.loads(report.read_text())
    return loaded


@pytest.mark.parametrize(
    "event",
    ["rolling_update", "downscale", "controller_killed", "node_killed", "ingress_node_killed"],
)
def test_every_request_has_its_picture(found: dict[str, Any], event: str) -> None:
    assert found[event]["problems"] == []
    assert found[event]["during_and_after"]["requests"] >= 18


def test_rows_were_running_on_the_node_that_died(found: dict[str, Any]) -> None:
    assert found["node_killed"]["repeated_rows"] > 0
    assert found["node_killed"]["second_tries"] == 0


def test_nothing_is_repeated_where_nothing_dies(found: dict[str, Any]) -> None:
    for event in ("rolling_update", "downscale", "controller_killed"):
        assert found[event]["repeated_rows"] == 0


def test_clients_of_the_node_that_died_ask_again(found: dict[str, Any]) -> None:
    assert found["ingress_node_killed"]["second_tries"] > 0
