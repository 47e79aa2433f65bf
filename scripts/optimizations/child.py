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
    """Its figures. Raises RuntimeError for one that broke: what it said, and in the last line the
    reason."""
    process = subprocess.run(
        [sys.executable, "-m", "optimizations.measure"],
        input=msgspec.json.encode(job),
        env={**os.environ, "PYTHONPATH": f"{SCRIPTS.parent}{os.pathsep}{SCRIPTS}"},
        cwd=SCRIPTS,
        capture_output=True,
    )
    if process.returncode:
        said = process.stderr.decode(errors="replace").rstrip()[-3000:]
        reason = said.rpartition("\n")[2] or "it said nothing"
        raise RuntimeError(f"{said}\nexit status {process.returncode}: {reason}")
    figures: dict[str, Any] = json.loads(process.stdout.decode().splitlines()[-1])
    return figures
