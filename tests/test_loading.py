"""What a model's start says about the machine."""

from pathlib import Path

import pytest

from deployments.diffusion import loading
from tests.tiny_model import open_model


@pytest.mark.parametrize("has_instructions", [True, False])
def test_a_dtype_without_instructions_is_told_of(
    has_instructions: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tiny_folder: Path,
) -> None:
    monkeypatch.setitem(loading.FAST_ON_CPU, "bfloat16", lambda: has_instructions)
    open_model(tiny_folder, dtype="bfloat16")
    told = [record.getMessage() for record in caplog.records if "instructions" in record.msg]
    assert len(told) == (0 if has_instructions else 1)
    assert all("model tiny" in line and "dtype bfloat16" in line for line in told)
    assert all("float32" in line for line in told)
