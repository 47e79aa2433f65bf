"""Labels and fractions say where replicas lie: a cluster of three nodes on this machine."""

import json
import os
import subprocess
import sys

import pytest

from tests.service import ROOT


@pytest.mark.slow
def test_replicas_lie_where_labels_and_fractions_allow() -> None:
    placed = subprocess.run(
        [sys.executable, "-m", "tests.placing"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert placed.returncode == 0, placed.stderr
    assert json.loads(placed.stdout.splitlines()[-1]) == {
        "gpu-1": ["diffusion-paced"] * 2,
        "gpu-2": ["diffusion-paced"] * 2,
        "cpu-1": ["imaging", "imaging", "ingress", "ingress", "jobs"],
    }
