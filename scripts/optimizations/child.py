"""A job in a process of its own, so that neither peaks nor compilers' caches mix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from optimizations.measure import Job

SCRIPTS = Path(__file__).resolve().parent.parent


def measured(job: Job) -> dict[str, Any]:
    """Its figures. Raises RuntimeError, with what it said, for one that broke."""
    process = subprocess.run(
        [sys.executable, "-m", "optimizations.measure"],
        input=msgspec.json.encode(job),
        env={**os.environ, "PYTHONPATH": f"{SCRIPTS.parent}{os.pathsep}{SCRIPTS}"},
        cwd=SCRIPTS,
        capture_output=True,
    )
    if process.returncode:
        raise RuntimeError(f"{job.settings} broke:\n{process.stderr.decode()[-3000:]}")
    figures: dict[str, Any] = json.loads(process.stdout.decode().splitlines()[-1])
    return figures
