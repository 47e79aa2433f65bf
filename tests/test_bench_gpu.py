"""The GPU benchmark: the sizes of its models, its arithmetic, and all of it once at toy size."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import bench_gpu
import diffusers
import pytest
import torch
import transformers
from batching.workfile import WorkFile
from gpu import bars, plan
from gpu import engine as gpu_engine
from gpu.bench import Bench, Result
from gpu.flops import META, forward_flop
from gpu.kernels import idle_share, spans_of
from gpu.measure import measured
from gpu.models import MODELS, TOYS, made_family, modules
from gpu.plan import FIRST, Row, all_rows, chosen_rows, is_usual
from gpu.report import report, tables
from gpu.rig import Rig
from gpu.sizes import with_t5_layers
from torch._C._autograd import DeviceType

from deployments.diffusion.batch import Batch, Layout
from deployments.diffusion.loading import start_engine
from deployments.diffusion.warmup import members_of

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _verbosity_kept() -> Iterator[None]:
    kept = [(lib, lib.utils.logging.get_verbosity()) for lib in (diffusers, transformers)]
    yield
    for library, verbosity in kept:
        library.utils.logging.set_verbosity(verbosity)


# The models

PUBLISHED = {
    "sd15": {"unet": 859.5, "vae": 83.7, "text_encoder": 123.1},
    "sdxl": {"unet": 2567.5, "vae": 83.7, "text_encoder": 123.1, "text_encoder_2": 694.7},
    "sd3": {
        "transformer": 2028.3,
        "vae": 83.8,
        "text_encoder": 123.7,
        "text_encoder_2": 694.7,
        "text_encoder_3": 4762.3,
    },
    "flux": {"transformer": 11901.4, "vae": 83.8, "text_encoder": 123.1, "text_encoder_2": 4762.3},
}
"""Millions of weights."""
TFLOP = {"sd15": 0.803, "sdxl": 6.76, "sd3": 8.9, "flux": 74.4}
"""Of one forward with one lane."""


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_as_large_as_published_and_made_where_it_stays(name: str) -> None:
    made = modules(MODELS[name].parts, META, torch.bfloat16)
    millions = {
        part: sum(weight.numel() for weight in module.parameters()) / 1e6
        for part, module in made.items()
    }
    assert millions == pytest.approx(PUBLISHED[name], rel=1e-3)
    weights = [weight for module in made.values() for weight in module.parameters()]
    assert {weight.device for weight in weights} == {META}
    assert {weight.dtype for weight in weights} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", MODELS)
def test_a_forward_computes_as_much_as_published(name: str) -> None:
    assert forward_flop(MODELS[name]) / 1e12 == pytest.approx(TFLOP[name], rel=0.01)


@pytest.mark.parametrize("name", TOYS)
@torch.inference_mode()
def test_warm_up_rows_take_as_many_lanes_as_they_should(name: str) -> None:
    """Also of models whose rows take one lane each."""
    family = made_family(TOYS[name], CPU, torch.float32)
    for lanes in (1, 2, 3):
        members = members_of(family, family.scheduler_name, (64, 64), lanes)
        assert Batch(Layout(family.denoise, CPU), members).lanes == lanes


def test_a_t5_may_have_fewer_layers() -> None:
    parts = with_t5_layers(MODELS["sd3"].parts, 1)
    assert parts["text_encoder_3"].numbers["num_layers"] == 1
    assert parts["transformer"] == MODELS["sd3"].parts["transformer"]
    assert with_t5_layers(MODELS["sdxl"].parts, 1) == MODELS["sdxl"].parts


# The plan


def test_what_has_a_bar_comes_first_and_no_name_comes_twice() -> None:
    rows = all_rows(toy=False)
    assert tuple(rows[: len(FIRST)]) == FIRST
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert "flux/alone/regional" in names
    assert {row.lanes for row in rows} == {0, 1, 2, 4, 8, 16}


def test_rows_are_chosen_by_pattern() -> None:
    usual = chosen_rows([], toy=False)
    assert set(FIRST) < set(usual)
    assert not any(row.mode == "max-autotune" for row in usual)
    chosen = chosen_rows(["sd3/step/max-autotune/*", "matmul"], toy=False)
    assert [row.name for row in chosen][:2] == ["matmul", "sd3/step/max-autotune/1"]
    assert len(chosen) == 6
    with pytest.raises(ValueError, match="no row fits 'sd4/"):
        chosen_rows(["matmul", "sd4/*"], toy=False)


def test_a_toy_compiles_little() -> None:
    usual = [row for row in all_rows(toy=True) if is_usual(row, toy=True)]
    assert {row.name for row in usual if row.mode == "default"} == {
        "sd15/engine/default",
        "sd15/step/default/2",
    }
    assert {row.lanes for row in usual} == {0, 1, 2}


# The bars


def engine(images_per_s: float, no_kernel_share: float = 0.02) -> dict[str, float]:
    return {"images_per_s": images_per_s, "no_kernel_share": no_kernel_share}


def verdicts(found: dict[str, dict[str, float]]) -> dict[str, str]:
    return {bar.name: bar.verdict(applies=True) for bar in bars.bars(found)}


def test_bars_are_held_against_the_best_mode() -> None:
    found = {
        "sd15/engine/default": engine(12.0, 0.031),
        "sd15/engine/eager": engine(5.0, 0.01),
        "sd15/loop": {"images_per_s": 2.0, "image_s": 0.5},
        "sdxl/engine/default": engine(1.25),
        "flux/alone/eager": {"p50_s": 6.7},
        "flux/alone/regional": {"p50_s": 4.5},
        "flux/alone/fp8": {"p50_s": 3.0},  # the bar is for 16 bits
    }
    assert verdicts(found) == {
        "SD 1.5, images/s": "met",
        "SD 1.5, engine / eager diffusers loop": "met",
        "SDXL, images/s": "NOT MET",
        "SDXL quantized, images/s": "not measured",
        "SDXL quantized, images/s, stretch": "not measured",
        "FLUX.1 dev, seconds a picture": "met",
        "sd15, share of time without a kernel": "NOT MET",
        "sdxl, share of time without a kernel": "met",
        "flux, share of time without a kernel": "not measured",
    }
    ratio = next(bar for bar in bars.bars(found) if "loop" in bar.name)
    assert (ratio.value, ratio.row) == (6.0, "sd15/engine/default")
    assert {bar.verdict(applies=False) for bar in bars.bars(found)} == {"not on this device"}


def test_quantized_rows_have_bars_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = {**plan.MODES, "fp8": {"compile": "default", "quantization": "fp8"}}
    monkeypatch.setattr(bars, "MODES", modes)
    found = verdicts({"sdxl/engine/fp8": engine(1.7)})
    assert found["SDXL, images/s"] == "not measured"
    assert found["SDXL quantized, images/s"] == "met"
    assert found["SDXL quantized, images/s, stretch"] == "NOT MET"


def test_a_row_without_memory_meets_no_bar() -> None:
    found: dict[str, dict[str, float]] = {"sd15/engine/default": {}, "flux/alone/eager": {}}
    assert set(verdicts(found).values()) == {"not measured"}


class Event(NamedTuple):
    """One of the profiler's, as far as it is asked."""

    kind: str
    start: int
    end: int
    device: DeviceType = DeviceType.CUDA
    is_annotation: bool = False

    def name(self) -> str:
        return self.kind

    def start_ns(self) -> int:
        return self.start

    def end_ns(self) -> int:
        return self.end

    def device_type(self) -> DeviceType:
        return self.device

    def is_user_annotation(self) -> bool:
        return self.is_annotation


def test_only_kernels_keep_a_gpu_busy() -> None:
    now = 1_800_000_000 * 10**9
    spans = spans_of(
        [
            Event("aten::mm", now, now + 900, DeviceType.CPU),
            Event("step", now, now + 900, is_annotation=True),
            Event("Memcpy HtoD", now, now + 90),
            Event("gemm", now + 100, now + 200),
            Event("gemm on another stream", now + 150, now + 300),
            Event("softmax", now + 400, now + 500),
        ]
    )
    assert sum(spans, ()) == pytest.approx((0.0, 1e-7, 5e-8, 2e-7, 3e-7, 4e-7))
    assert idle_share(spans) == pytest.approx(0.25)


@pytest.mark.parametrize(("name", "lanes"), [("sd15", 2), ("flux", 1)])
def test_one_picture_at_a_time_compiles_for_nothing_else(
    name: str, lanes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(CPU, torch.float32, toy=True, t5_layers=None, threads=1, cache=str(tmp_path))
    started: list[tuple[int, ...]] = []

    def watched(family: Any, settings: Any) -> Any:
        started.append(settings.lane_buckets)
        return start_engine(family, settings)

    monkeypatch.setattr(gpu_engine, "start_engine", watched)
    measured(rig, Row("alone", name, "eager"))
    assert started == [(lanes,)]


# The report


def test_steps_are_held_against_the_matmul() -> None:
    step = Row("step", "sdxl", "eager", 4)
    results = {
        step: Result(figures={"tflop_per_s": 200.0}),
        Row("matmul"): Result(figures={"tflop_per_s": 800.0}),
        Row("step", "sdxl", "eager", 16): Result(out_of_memory=True),
    }
    about: dict[str, Any] = dict.fromkeys(
        ("device_name", "driver", "torch", "diffusers", "transformers", "dtype"), "x"
    )
    found = report(results, about, applies=True)
    assert found["rows"][step.name]["figures"]["peak_share"] == 0.25
    assert "peak_share" not in found["rows"]["matmul"]["figures"]
    assert "out of memory" in tables(found)


# Rows


def test_a_row_that_fails_is_not_kept_and_the_next_has_its_turn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def measure(row: Row) -> dict[str, float]:
        asked.append(row.name)
        if row.lanes == 1:
            raise RuntimeError("an odd kernel")
        if row.lanes == 2:
            raise torch.OutOfMemoryError("too many lanes")
        return {"step_ms": 3.0}

    rows = [Row("step", "sd15", "eager", lanes) for lanes in (1, 2, 4)]
    names = [row.name for row in rows]
    for _ in range(2):
        bench = Bench(measure, WorkFile(tmp_path / "work.jsonl", {"torch": "2"}, str))
        bench.run(rows)
        assert bench.failed == names[:1]
        assert bench.results(rows) == {
            rows[1]: Result(out_of_memory=True),
            rows[2]: Result(figures={"step_ms": 3.0}),
        }
    assert asked == [*names, names[0]]
    said = capsys.readouterr()
    assert "an odd kernel" in said.err
    assert f"{names[1]}: out of memory" in said.out


# All of it

FIGURES = {
    "matmul": {"ms", "tflop_per_s"},
    "engine": {
        "images_per_s",
        "image_s",
        "p50_s",
        "outside_model_share",
        "lanes_per_step",
        "warm_up_s",
    },
    "alone": {"p50_s", "warm_up_s"},
    "loop": {"images_per_s", "image_s"},
    "parts": {"prompts_1_ms", "prompts_8_ms", "encode_1_ms", "decode_1_ms", "decode_4_ms"},
    "step": {"step_ms", "lane_ms", "tflop_per_s", "warm_up_s", "peak_share"},
}
TOY = ["--toy", "--device", "cpu", "--threads", "1"]


@pytest.mark.slow
def test_a_toy_benchmark_has_every_figure_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, figures_file = tmp_path / "work.jsonl", tmp_path / "figures.json"
    eager = ["matmul", "*/loop", "*/parts", "*/engine/eager", "*/step/eager/*"]
    arguments = [*TOY, "--work", str(work), "--json", str(figures_file)]
    arguments += ["--rows", *eager, "sd15/alone/eager", "flux/alone/eager"]
    bench_gpu.main(arguments)
    found = json.loads(figures_file.read_text())

    assert len(found["rows"]) == 1 + 4 * (1 + 1 + 1 + 2) + 2
    for name, row in found["rows"].items():
        assert set(row["figures"]) == FIGURES[row["kind"]], name
        assert all(0 < value < 1e6 for value in row["figures"].values()), name
        if row["kind"] == "engine":
            assert row["figures"]["outside_model_share"] < 1
            assert 1 < row["figures"]["lanes_per_step"] <= 4
    assert {bar["verdict"] for bar in found["bars"]} == {"not on this device"}
    assert found["about"]["dtype"] == "bfloat16"
    assert f"torch {torch.__version__}" in capsys.readouterr().out

    lines = work.read_bytes()
    bench_gpu.main(arguments)
    assert work.read_bytes() == lines
    assert json.loads(figures_file.read_text()) == found

    *kept, _ = lines.splitlines(keepends=True)
    work.write_bytes(b"".join(kept) + b'{"settings": {"dev')  # what the end of a lease leaves
    bench_gpu.main(arguments)
    assert work.read_bytes().startswith(b"".join(kept))
    assert len(work.read_bytes().splitlines()) == len(kept) + 1


@pytest.mark.slow
def test_the_compiled_rows_of_a_toy(tmp_path: Path) -> None:
    figures_file = tmp_path / "figures.json"
    rows = ["sd15/engine/default", "sd15/step/default/2", "flux/alone/regional"]
    bench_gpu.main([*TOY, "--json", str(figures_file), "--rows", *rows])
    found = json.loads(figures_file.read_text())["rows"]
    assert set(found) == set(rows)
    for row in found.values():
        assert set(row["figures"]) == FIGURES[row["kind"]] - {"peak_share"}


def test_a_profile_names_what_took_long(capsys: pytest.CaptureFixture[str]) -> None:
    bench_gpu.main([*TOY, "--profile", "flux/step/eager/2"])
    assert "aten::addmm" in capsys.readouterr().out


def test_the_list_says_what_is_run_and_when(capsys: pytest.CaptureFixture[str]) -> None:
    bench_gpu.main(["--list"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "matmul"
    assert "sdxl/step/max-autotune/16  (when asked for)" in lines
    with pytest.raises(SystemExit):
        bench_gpu.main(["--rows", "sd15/steps/*"])
    assert "--list" in capsys.readouterr().err


def test_the_script_needs_no_ray() -> None:
    code = (
        "import sys; sys.path.insert(0, 'scripts'); import bench_gpu; print('ray' in sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "False"
