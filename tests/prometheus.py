"""Prometheus itself, as Debian's package `prometheus` brings it, and its `promtool`."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from server.child import free_port

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="needs prometheus and promtool: apt-get install prometheus",
)
TRIES = 20_000
"""Of a question, each a round trip of a millisecond or more."""


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    client: httpx.Client

    def series(self, expression: str) -> list[dict[str, Any]]:
        """What the expression gives now; each has its labels in `metric` and a `value`."""
        answer = self.client.get("/api/v1/query", params={"query": expression})
        assert answer.status_code == 200, f"{expression}: {answer.text}"
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def wait_for(self, expression: str) -> list[dict[str, Any]]:
        """The series of the expression, once there are any."""
        for _ in range(TRIES):
            if found := self.series(expression):
                return found
        raise AssertionError(f"{expression} never gave anything")

    def rules(self) -> list[dict[str, Any]]:
        """The alerts that it evaluates, once each has been."""
        for _ in range(TRIES):
            groups = self.client.get("/api/v1/rules").json()["data"]["groups"]
            rules: list[dict[str, Any]] = [rule for group in groups for rule in group["rules"]]
            if rules and all(rule["health"] != "unknown" for rule in rules):
                return rules
        raise AssertionError("its rules were never evaluated")


@contextmanager
def running_prometheus(folder: Path, target: str, rules: Any) -> Iterator[Prometheus]:
    """Scrapes `target` and evaluates `rules` every second."""
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--log.level=error",
        ]
    )
    try:
        transport = httpx.HTTPTransport(retries=8)  # until it listens; the pauses double
        with httpx.Client(base_url=f"http://{address}", transport=transport, timeout=30) as client:
            assert any(client.get("/-/ready").status_code == 200 for _ in range(TRIES))
            yield Prometheus(client)
    finally:
        process.terminate()
        process.wait()


def promtool(*arguments: str) -> str:
    """What it says. Raises AssertionError where it finds fault."""
    ran = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
