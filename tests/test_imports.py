"""The house's one-way rule: who may import whom, proved in fresh interpreters and in the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("ingress", "imaging", "diffusion", "jobs")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("deployments.diffusion.engine", ("ray", "starlette", "opentelemetry")),
        ("deployments.diffusion.worker", ("ray", "starlette", "opentelemetry")),
        ("deployments.ingress.routes", ("torch", "ray", "diffusers")),
        ("deployments.jobs.ledger", ("torch", "ray", "starlette")),
        ("deployments.imaging.prepare", ("torch", "ray", "starlette", "opentelemetry")),
        ("deployments.requests", ("torch", "ray", "starlette")),
        ("deployments.metrics", ("torch", "ray", "starlette", "numpy")),
        ("deployments.published", ("torch", "ray", "starlette")),
    ],
)
def test_importing_a_room_loads_nothing_it_does_not_know(
    module: str, absent: tuple[str, ...]
) -> None:
    code = f"import sys, {module}; print([name for name in {absent!r} if name in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def imported(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            modules.add(node.module or "")
    return modules


@pytest.mark.parametrize("path", sorted((ROOT / "deployments").rglob("*.py")), ids=str)
def test_imports_run_one_way(path: Path) -> None:
    room = path.relative_to(ROOT / "deployments").parts[0]
    for module in imported(path):
        assert not module.startswith("serve_app"), f"{path} imports {module}"
        if module.split(".")[0] == "ray":
            assert path.name in ("deployment.py", "dispatch.py"), f"{path} imports {module}"
        for other in set(ROOMS) - {room, "imaging"}:
            assert not module.startswith(f"deployments.{other}"), f"{path} imports {module}"
        if room != "imaging":
            assert module != "deployments.imaging.deployment", f"{path} imports {module}"
