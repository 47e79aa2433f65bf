"""The README is a contract: what it shows is run. (Its curl is in test_launch.py.)"""

import json
import os
import re
import subprocess
from typing import Any, get_args

import pytest
from ray import serve

from deployments.diffusion.settings import Attention, Offload, Quantization
from deployments.diffusion.switches.combinations import SWITCHES
from tests.service import ROOT, WAIT_S, Service

README = (ROOT / "README.md").read_text()


def block(language: str, holding: str) -> str:
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    [found] = [each for each in blocks if holding in each]
    return found


def test_the_test_command_finds_the_suite() -> None:
    run, test = block("bash", "scripts/run").splitlines()
    assert (ROOT / run.split()[0]).is_file()  # started by test_launch.py
    found = subprocess.run(
        test,
        shell=True,
        cwd=ROOT,
        env={**os.environ, "PYTEST_ADDOPTS": "--collect-only -q"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "tests/test_readme.py" in found.stdout


def test_the_openai_client_as_shown(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for holding in ("OpenAI(", "stream=True"):
        code = block("python", holding).replace("http://127.0.0.1:8000", service.url)
        exec(compile(code, "README.md", "exec"), names)
    seeds, *events = capsys.readouterr().out.splitlines()
    assert seeds == "[7, 8]"
    assert events == [*["image_generation.partial_image"] * 2, "image_generation.completed"]


def test_a_job_as_shown(service: Service) -> None:
    commands = block("bash", "/v1/jobs").replace("http://127.0.0.1:8000", service.url)
    said = subprocess.run(commands, shell=True, capture_output=True, text=True, check=True).stdout
    assert "event: progress" in said
    assert "event: succeeded" in said
    result = json.loads(said[said.rindex('{"id"') :])
    assert (result["id"], len(result["data"])) == ("house-1", 2)


def test_a_key_as_shown() -> None:
    made = subprocess.run(
        block("bash", "ingress.keys"), shell=True, cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"}, check=True,
    )  # fmt: skip
    assert "alice:" in made.stdout


def test_every_switch_has_a_row() -> None:
    section = README.split("## Switches\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    for name in (*SWITCHES, "dtype", "compile", "compile_scope"):
        assert any(f"`{name}" in row for row in rows), name
    for value in get_args(Attention) + get_args(Quantization) + get_args(Offload):
        assert value in ("sdpa", "none") or any(value in row for row in rows), value
    for file in ("optimizations.json", "optimizations-avx2.json"):
        figures = json.loads((ROOT / "docs" / file).read_text())
        measured = {name for name, row in figures.items() if "step_ms" in row} - {"plain_large"}
        assert all(f"| `{name}`" in section for name in measured), file


def test_every_block_is_run() -> None:
    blocks = re.findall(r"```(bash|python)\n(.*?)```", README, re.DOTALL)
    shown = (
        "scripts/run",
        "house.png",
        "OpenAI(",
        "stream=True",
        "/v1/jobs",
        "ingress.keys",
        "StepwiseClient",
    )
    assert all(any(each in text for each in shown) for _, text in blocks)
    assert len(blocks) == len(shown), "a test runs each of these, and so must one run a new one"


def test_another_ray_app_as_shown(service: Service) -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(block("python", "StepwiseClient"), "README.md", "exec"), names)
    handle: Any = serve.run(names["app"], name="postcards", route_prefix=None)
    try:
        back = handle.make.remote("a red house on green hills at day").result(timeout_s=WAIT_S)
    finally:
        serve.delete("postcards")
    assert back.startswith(b"\x89PNG")
