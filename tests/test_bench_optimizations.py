"""The benchmark of switches: its parts, and a few rows of it on the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bench_optimizations
import numpy as np
import pytest
from optimizations.likeness import SAME_DB, difference
from optimizations.plan import PLAIN, PLAIN_LARGE, Switch, best, switches
from optimizations.tables import COLUMNS, tables

from deployments.diffusion.settings import DiffusionSettings

FIGURES = dict.fromkeys(COLUMNS, 1.0)


def test_differences_are_in_levels_and_decibels() -> None:
    plain = np.full((1, 2, 2, 3), 100, np.uint8)
    assert difference(plain, plain) == {"max_diff": 0, "psnr_db": SAME_DB}
    other = plain.copy()
    other[0, 0, 0, 0] = 90
    found = difference(other, plain)
    assert found["max_diff"] == 10
    assert found["psnr_db"] == pytest.approx(10 * np.log10(255**2 / (100 / 12)))


def test_every_switch_alone_is_a_setting_that_there_is() -> None:
    names = [switch.name for switch in switches("folder")]
    assert len(set(names)) == len(names)
    assert names.index(PLAIN_LARGE) < names.index("vae_tiling")
    for switch in switches("folder"):
        DiffusionSettings(id="bench", source="embedded", **switch.settings)


def test_the_best_combination_has_what_gains_and_is_faithful() -> None:
    rows: dict[str, tuple[dict[str, Any], float, float]] = {
        PLAIN: ({}, 1.0, 100.0),
        "fast": ({"dtype": "bfloat16"}, 2.0, 40.0),
        "slower of the same": ({"dtype": "float16"}, 1.5, 40.0),
        "unfaithful": ({"quantization": "int8"}, 3.0, 20.0),
        "no gain": ({"fused_qkv": True}, 1.01, 100.0),
        "other": ({"compile": "default"}, 1.2, 90.0),
    }
    found: dict[str, dict[str, Any]] = {
        name: {**FIGURES, "images_per_s": per_s, "psnr_db": db}
        for name, (_, per_s, db) in rows.items()
    }
    measured = {name: Switch(name, settings) for name, (settings, _, _) in rows.items()}
    found["refused"] = {"skipped": "no GPU"}
    assert best(found, measured).settings == {"dtype": "bfloat16", "compile": "default"}


def test_the_table_has_figures_and_reasons() -> None:
    said = tables({"about": {"best": {"dtype": "bfloat16"}}, "a": FIGURES, "b": {"skipped": "why"}})
    assert "b                         skipped: why" in said
    assert said.count("1") >= len(COLUMNS)


@pytest.mark.parametrize(
    "wanted",
    [
        ("channels_last", "offload_model"),
        pytest.param(("plain_large", "vae_tiling", "deep_cache", "best"), marks=pytest.mark.slow),
    ],
)
def test_a_few_rows_on_the_tiny_model(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], wanted: tuple[str, ...]
) -> None:
    out = tmp_path / "found.json"
    chosen = [name for name in wanted if name != "best"]
    bench_optimizations.main(
        [
            *["--model", str(tiny_folder), "--device", "cpu", "--threads", "1", "--lanes", "4"],
            *["--quick", "--steps", "5", "--json", str(out), "--switches", *chosen],
            "--best" if "best" in wanted else "--no-best",
        ]
    )
    found = json.loads(out.read_text())
    assert set(found) == {"about", "plain", *wanted}
    for name, figures in found.items():
        if name == "offload_model":
            assert "needs a CUDA GPU" in figures["skipped"]
        elif name != "about":
            assert list(figures) == list(COLUMNS), name
            assert min(figures[figure] for figure in COLUMNS[:3]) > 0
    if "vae_tiling" in wanted:
        assert found["vae_tiling"]["peak_mib"] < found["plain_large"]["peak_mib"]
    else:
        assert found["channels_last"]["max_diff"] <= 1
    assert wanted[1] in capsys.readouterr().out
