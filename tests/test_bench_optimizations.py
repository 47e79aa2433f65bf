"""The benchmark of switches: its parts, and a few rows of it on the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bench_optimizations
import numpy as np
import pytest
import torch
from likeness import SAME_DB, difference
from optimizations import measure as measuring
from optimizations.child import measured
from optimizations.measure import Job, measure
from optimizations.plan import BEST, PLAIN, PLAIN_LARGE, Switch, best, switches, with_baselines
from optimizations.tables import COLUMNS, tables

from deployments.diffusion.settings import DiffusionSettings
from deployments.requests import Row
from tests.tiny_families import MAKERS

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
    for switch in switches("folder"):
        assert names.index(switch.against) <= names.index(switch.name)
        DiffusionSettings(id="bench", source="embedded", **switch.settings)


def test_a_switch_is_compared_with_its_own_settings_without_it() -> None:
    known = {switch.name: switch for switch in switches("folder")}
    for switch in known.values():
        baseline = known[switch.against]
        assert set(baseline.settings.items()) <= set(switch.settings.items())
        assert baseline.is_large == switch.is_large  # or the pictures are of different sizes
    assert known["attention_sage"].against == known["fp8_dynamic"].against == "bfloat16"
    assert known["int8_dynamic_compiled"].against == "compile_default"


def test_wanted_switches_bring_what_they_are_compared_with() -> None:
    known = {switch.name: switch for switch in switches("")}
    chosen = with_baselines(["int8_compiled", "vae_tiling"], known)
    assert [switch.name for switch in chosen] == [
        *[PLAIN, "compile_default", "int8_compiled"],
        *[PLAIN_LARGE, "vae_tiling"],
    ]


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


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        (  # the same value twice is no conflict
            {"bfloat16": 1.5, "attention_flash": 2.0},
            {"dtype": "bfloat16", "attention": "flash"},
        ),
        ({"bfloat16": 1.5, "attention_flash": 1.51}, {"dtype": "bfloat16"}),
        ({"bfloat16": 0.5, "attention_flash": 0.8}, {}),  # faster than a row that is slower
        ({"deep_cache": 1.8, "compile_default": 1.4}, {"deep_cache": 2}),  # refused together
        ({"deep_cache": 1.2, "compile_default": 1.4}, {"compile": "default"}),
        (
            {"compile_default": 1.4, "int8_compiled": 1.6},
            {"compile": "default", "quantization": "int8"},
        ),
        ({"compile_default": None, "int8_compiled": 1.6}, {}),
    ],
)
def test_the_best_combination_is_one_that_there_can_be(
    rows: dict[str, float | None], chosen: dict[str, Any]
) -> None:
    known = {switch.name: switch for switch in switches("")}
    found: dict[str, dict[str, Any]] = {PLAIN: {**FIGURES, "psnr_db": 100.0}}
    for name, per_s in rows.items():
        has_baseline = rows.get(known[name].against, 1.0) is not None
        figures = {**FIGURES, "images_per_s": per_s, "psnr_db": 40.0}
        if not has_baseline:
            del figures["psnr_db"]
        found[name] = {"skipped": "no compiler"} if per_s is None else figures
    assert best(found, known).settings == chosen


def test_the_table_has_figures_and_reasons() -> None:
    without = dict.fromkeys(COLUMNS[:3], 1.0)
    report = {"a": FIGURES, "b": {"skipped": "why"}, "c": {"failed": "how"}, "d": without}
    said = tables({"about": {"best": {"dtype": "bfloat16"}}, **report})
    assert "b                         skipped: why" in said
    assert "c                         failed: how" in said
    assert said.splitlines()[2].split() == ["d", *"111--"]


# A row that breaks


def job(folder: Path, tmp_path: Path, lanes: int = 4, **settings: Any) -> Job:
    return Job(
        settings={
            "id": "bench", "source": str(folder), "device": "cpu", "threads": 1,
            "cache_folder": str(tmp_path), "max_queue_s": 1e9, **settings,
        },
        asked={}, is_large=False, steps=4, lanes=lanes, rounds=2,
        pictures=str(tmp_path / "pictures.npy"),
    )  # fmt: skip


def test_a_job_that_breaks_says_why_in_its_last_line(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        measured(job(tiny_folder, tmp_path, no_such_setting=1))
    last = str(caught.value).splitlines()[-1]
    assert last.startswith("exit status 1: TypeError:")
    assert "no_such_setting" in last


@pytest.mark.parametrize(
    ("lanes", "settings", "reason"),
    [(4, {"default_scheduler": "Nonsense"}, "default_scheduler is 'Nonsense'"), (1, {}, "2 lanes")],
)
def test_what_is_refused_at_the_start_is_skipped(
    tiny_folder: Path, tmp_path: Path, lanes: int, settings: dict[str, Any], reason: str
) -> None:
    assert reason in measure(job(tiny_folder, tmp_path, lanes, **settings))["skipped"]


def test_one_row_that_fails_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.json"
    written: list[list[str]] = []

    def fake(job: Job) -> dict[str, Any]:
        """As a process would end: most with pictures, one broken, one refused."""
        written.append(list(json.loads(out.read_text())) if out.exists() else [])
        if job.settings["channels_last"]:
            raise RuntimeError("Traceback\nexit status -9: it said nothing")
        if job.settings["dtype"] == "bfloat16" and "attention" not in job.settings:
            return {"skipped": "no such numbers here"}
        np.save(job.pictures, np.zeros((1, 2, 2, 3), np.uint8))
        return dict.fromkeys(COLUMNS[:3], 1.0)

    monkeypatch.setattr(bench_optimizations, "measured", fake)
    chosen = ["channels_last", "attention_flash", "deep_cache"]
    with pytest.raises(SystemExit, match=r"failed, see above: channels_last$"):
        bench_optimizations.main(["--json", str(out), "--switches", *chosen])
    found = json.loads(out.read_text())
    assert found["channels_last"] == {"failed": "exit status -9: it said nothing"}
    assert found["bfloat16"] == {"skipped": "no such numbers here"}
    assert list(found["attention_flash"]) == list(COLUMNS[:3])  # what it differs from is not there
    assert list(found["deep_cache"]) == list(COLUMNS)
    names = ["about", PLAIN, "channels_last", "bfloat16", "attention_flash", "deep_cache", BEST]
    assert written == [names[: len(done)] for done in written]
    assert [len(done) for done in written] == [0, 2, 3, 4, 5, 6]
    assert "Traceback" in capsys.readouterr().err


def test_without_a_plain_row_there_are_no_differences_and_no_best(
    tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "found.json"
    arguments = ["--model", str(tiny_folder), "--device", "cpu", "--threads", "1", "--lanes", "1"]
    bench_optimizations.main([*arguments, "--quick", "--json", str(out), "--switches", "plain"])
    found = json.loads(out.read_text())
    assert set(found) == {"about", PLAIN}
    assert "needs 2 lanes" in found[PLAIN]["skipped"]


# What a row measures


def test_a_full_batch_runs_from_its_first_step_with_prompts_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FLUX's rows take one lane each."""
    MAKERS["flux"](tmp_path / "flux")
    asked: list[list[Row]] = []
    steps: list[list[float]] = []
    measured_round = measuring._round

    def watched(engine: Any, rows: list[Row]) -> Any:
        before = engine.stats()
        found = measured_round(engine, rows)
        after = engine.stats()
        asked.append(rows)
        steps.append([after.steps - before.steps, after.row_steps - before.row_steps])
        return found

    monkeypatch.setattr(measuring, "_round", watched)
    with torch.inference_mode():
        figures = measure(job(tmp_path / "flux", tmp_path, sizes=("64x64",)))
    assert set(figures) == set(COLUMNS[:3])
    assert steps == [[4, 16], [4, 16], [2, 8]]
    prompts = [row.prompt for rows in asked for row in rows]
    assert len(set(prompts)) == len(prompts) == 12


def test_a_step_is_the_mean_of_a_round_and_the_median_of_all() -> None:
    times = ([1.0, 3.0], [2.0, 4.0], [9.0, 9.0])
    rounds = [measuring._Round(1.0, step_s, []) for step_s in times]
    assert measuring.step_s(rounds) == 3.0


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
