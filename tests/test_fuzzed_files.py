"""Mutated files through `prepare`, in a process of their own that may neither die nor hang."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.odd_files.fuzz import SEED, mutated_file

ROOT = Path(__file__).parents[1]


def outcomes(count: int, log: Path, *, hangs_after_s: float) -> Counter[str]:
    """How many of so many mutated files were prepared, and how many refused."""
    script = f"from tests.odd_files.fuzz import prepare_mutated; prepare_mutated({count})"
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", script]
    try:
        with log.open("w") as out:
            subprocess.run(
                command,
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.PIPE,
                check=True,
                timeout=hangs_after_s,
            )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failed:
        number = log.read_text().rpartition("\n")[2].strip()
        said = (failed.stderr or b"").decode()
        pytest.fail(f"at mutated_file({number}) of seed {SEED}: {failed}\n{said}")
    return Counter(line.split()[1] for line in log.read_text().splitlines())


def check(found: Counter[str], count: int) -> None:
    assert found.total() == count
    assert set(found) == {"prepared", "refused"}
    assert min(found.values()) > count / 10, found


def test_a_mutated_file_can_be_made_again() -> None:
    assert mutated_file(7) == mutated_file(7)
    assert len({mutated_file(number) for number in range(90)}) > 80


def test_500_mutated_files_are_prepared_or_refused(tmp_path: Path) -> None:
    check(outcomes(500, tmp_path / "log", hangs_after_s=300), 500)


@pytest.mark.slow
def test_10_000_mutated_files_are_prepared_or_refused(tmp_path: Path) -> None:
    check(outcomes(10_000, tmp_path / "log", hangs_after_s=1800), 10_000)
