"""Labels and fractions say where replicas lie: a cluster of three nodes on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service import ROOT


@pytest.mark.slow
def test_replicas_lie_where_labels_and_fractions_allow(tmp_path: Path) -> None:
    report = tmp_path / "placed.json"
    placed = subprocess.run(
        [sys.executable, "-m", "tests.placing", str(report)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert placed.returncode == 0, placed.stderr
    assert json.loads(report.read_text()) == {
        "gpu-1": ["diffusion-paced"] * 2,
        "gpu-2": ["diffusion-paced"] * 2,
        "cpu-1": ["imaging", "imaging", "ingress", "ingress", "jobs"],
    }
