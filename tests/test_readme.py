"""The README is a contract: what it shows is run. (Its curl is in test_launch.py.)"""

import os
import re
import subprocess
from typing import Any

import pytest
from ray import serve

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
    code = block("python", "OpenAI").replace("http://127.0.0.1:8000", service.url)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == "[7, 8]\n"


def test_another_ray_app_as_shown(service: Service) -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(block("python", "StepwiseClient"), "README.md", "exec"), names)
    handle: Any = serve.run(names["app"], name="postcards", route_prefix=None)
    try:
        back = handle.make.remote("a red house on green hills at day").result(timeout_s=WAIT_S)
    finally:
        serve.delete("postcards")
    assert back.startswith(b"\x89PNG")
