"""The batching benchmark: its parts, and all of it once on the tiny model."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import bench_batching
import diffusers
import pytest
import torch
import transformers
from batching import models, plot
from batching.bars import Bar, bars
from batching.batcher import Batcher
from batching.curves import Curves
from batching.load import closed_loop, open_loop
from batching.pipeline import Pipeline
from batching.plan import QUICK_JOBS, Choice, load_runs, with_fitting_jobs
from batching.policies import (
    Waiting,
    arrived_together,
    by_key,
    oldest_key,
    one_at_a_time,
    shortest_key,
)
from batching.pool import Pool
from batching.records import Record, Run, figures, merged, percentile
from batching.rig import Rig
from batching.spans import ModelClock, covered_s
from batching.systems import SYSTEMS, WITH_BARS, Picture, Png, System, Work, png
from batching.trace import (
    MIXED_GUIDANCE,
    MIXED_SCHEDULERS,
    STEPS,
    Form,
    Job,
    lane_steps,
    mixed_trace,
    plain_trace,
)
from batching.workfile import WorkFile
from PIL import Image

from deployments.diffusion.families.stable_diffusion import StableDiffusion
from deployments.diffusion.settings import DiffusionSettings

FORM = Form(64, "DDIMScheduler")
CPU = torch.device("cpu")


@pytest.fixture
def rig(tiny_folder: Path, tmp_path: Path) -> Iterator[Rig]:
    settings = DiffusionSettings(
        id="bench",
        source=str(tiny_folder),
        device="cpu",
        lane_buckets=(1, 2, 4),
        cache_folder=str(tmp_path),
        threads=1,
        max_queue_s=1e9,
    )
    with Rig(settings, batch_wait_s=0.01) as opened:
        yield opened


@pytest.fixture
def _verbosity_kept() -> Iterator[None]:
    kept = [(lib, lib.utils.logging.get_verbosity()) for lib in (diffusers, transformers)]
    yield
    for library, verbosity in kept:
        library.utils.logging.set_verbosity(verbosity)


# The trace


def test_a_trace_depends_on_its_seed_alone() -> None:
    assert plain_trace(3, 60, FORM) == plain_trace(3, 60, FORM)
    first, other = plain_trace(3, 60, FORM), plain_trace(4, 60, FORM)
    assert [job.arrival for job in first] != [job.arrival for job in other]
    assert not {job.row.prompt for job in first} & {job.row.prompt for job in other}
    assert len({job.row.seed for job in first + other}) == 120


def test_the_plain_trace_has_all_steps_in_equal_parts_and_random_gaps() -> None:
    jobs = plain_trace(0, 1000, FORM)
    assert Counter(job.row.num_inference_steps for job in jobs) == dict.fromkeys(STEPS, 250)
    assert {lane_steps(job.row) for job in jobs} == {2 * steps for steps in STEPS}
    gaps = [later.arrival - earlier.arrival for earlier, later in pairwise(jobs)]
    assert jobs[0].arrival == 0
    assert 0.85 < sum(gaps) / len(gaps) < 1.15
    assert 0.55 < sum(gap < 1 for gap in gaps) / len(gaps) < 0.71  # 1 - 1/e of an exponential


def test_the_mixed_trace_mixes_everything() -> None:
    jobs = mixed_trace(0, 400, FORM)
    assert {job.row.guidance_scale for job in jobs} == set(MIXED_GUIDANCE)
    assert {job.row.scheduler for job in jobs} == set(MIXED_SCHEDULERS)
    assert {job.row.num_inference_steps for job in jobs} == set(STEPS)
    from_image = [job for job in jobs if job.image is not None]
    assert 0.15 < len(from_image) / len(jobs) < 0.35
    assert all((job.image is None) == (job.row.strength is None) for job in jobs)


# Figures


def test_spans_are_counted_once() -> None:
    assert covered_s([(0, 2), (1, 3), (5, 6), (5.5, 5.7)]) == 4
    assert covered_s([]) == 0


def test_percentiles_are_linear_between_neighbours() -> None:
    assert percentile([4.0, 1.0, 2.0, 3.0], 50) == 2.5
    assert percentile(list(range(101)), 99) == 99
    assert percentile([], 99) is None


def record(latencies: list[tuple[int, float]], **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "wall_s": 10.0,
        "occupied_s": 8.0,
        "model_s": 6.0,
        "forwards": 10,
        "lanes": 40,
        "finished": len(latencies),
        **changes,
    }
    return Record(latencies=latencies, **fields)


def test_figures_of_several_seeds_are_of_all_their_jobs() -> None:
    both = merged([record([(8, 1.0), (50, 9.0)]), record([(8, 3.0)], cut_off=True, wrong=2)])
    found = figures(both)
    assert found["images_per_s"] == 3 / 20
    assert (found["p50_s"], found["short_p50_s"]) == (3.0, 2.0)
    assert found["short_p99_s"] == pytest.approx(2.98)
    assert (found["lanes_per_step"], found["outside_model_share"]) == (4.0, 0.25)
    assert (found["cut_off"], found["wrong_pictures"], found["jobs"]) == (True, 2, 3)


def test_the_ceiling_takes_every_part_at_its_cheapest() -> None:
    curves = Curves(step_s={2: 0.04, 16: 0.16}, decode_s={1: 0.1, 4: 0.2}, prompts_s={1: 0.01})
    assert curves.image_s(lane_steps=54) == pytest.approx(54 * 0.01 + 0.05 + 0.01)


def test_bars_are_ratios_to_the_engine() -> None:
    def at(short_p99_s: float, *, cut_off: bool = False) -> dict[str, Any]:
        figures = {"short_p99_s": short_p99_s, "p99_s": 10.0, "images_per_s": 2.0}
        return {**figures, "cut_off": cut_off}

    systems = {"stepwise": at(1.0), "static_per_key": at(7.9), "static_sjf": at(6.0, cut_off=True)}
    saturation = {
        "stepwise_images_per_s": 2.0,
        "ceiling_images_per_s": 2.5,
        "diffusers_loop_images_per_s": 1.0,
    }
    found = bars(systems, saturation, {})
    assert [(bar.ratio, bar.met, bar.at_least) for bar in found] == [
        (7.9, False, False),
        (6.0, True, True),
        (1.0, True, False),
        (1.0, True, False),
        (0.8, False, False),
        (2.0, True, False),
    ]
    assert len(bars({}, saturation, {})) == 2
    previews = {"unwatched_time_share": 0.01, "watched_throughput_share": 0.94}
    *_, nobody, everybody = bars({}, saturation, previews)
    assert (nobody.ratio, nobody.met, everybody.met) == (0.99, True, False)
    assert Bar(name="throughput", ratio=0.996, least=1.0).met


def test_the_plot_is_a_picture_of_every_system() -> None:
    systems = {name: record([(8, 0.2 + i), (50, 90.0)]) for i, name in enumerate(SYSTEMS)}
    picture = plot.draw(systems, "Latency")
    assert picture.size == (plot.WIDTH, plot.HEIGHT)
    colours = {colour for _, colour in picture.getcolors(2**24) or []}
    assert {plot.COLOURS[name] for name in SYSTEMS} <= colours


# The plan


def test_what_has_a_bar_runs_first() -> None:
    choice = Choice(SYSTEMS, (0.5, 0.8, 0.95), (0, 1, 2), 340, quick=False)
    runs = load_runs(choice, capacity_per_s=2.0)
    assert {(run.system, run.load) for run in runs[:12]} == {(name, 0.8) for name in WITH_BARS}
    assert [run.seed for run in runs[:12:4]] == [0, 1, 2]
    assert sum(run.jobs for run in runs if run.load == 0.8) == 4 * 1020 + 3 * 113
    assert {run.jobs for run in runs if run.load != 0.8} == {113}
    assert {run.per_s for run in runs} == {1.0, 1.6, 1.9}
    assert len(runs) == 4 * 3 + 3 + 7 * 2


def test_a_quick_plan_fits_the_machine() -> None:
    choice = Choice(SYSTEMS, (0.5, 0.8, 0.95), (0,), 340, quick=True)
    slow = with_fitting_jobs(choice, capacity_per_s=1.0, loop_per_s=0.5)
    assert 20 < slow.jobs < with_fitting_jobs(choice, 3.0, 1.5).jobs <= QUICK_JOBS
    runs = load_runs(slow, capacity_per_s=1.0)
    assert {run.jobs for run in runs if run.load == 0.5} == {slow.jobs // 2}
    assert {run.system for run in runs if run.load == 0.8} == set(SYSTEMS)


# Loops


def test_a_system_that_does_not_keep_up_is_cut_off() -> None:
    futures: list[Future[Picture]] = []

    def submit(job: Job) -> Future[Picture]:
        futures.append(Future())
        if len(futures) == 1:
            futures[0].set_result(Png(b""))
        return futures[-1]

    system = System(submit, lambda: Work(0, 0))
    outcome = open_loop(system, plain_trace(0, 50, FORM), 1e6, most_waiting=5)
    assert outcome.cut_off
    assert (outcome.finished, outcome.failed, len(outcome.latencies)) == (1, 0, 7)
    assert [future.cancelled() for future in futures] == [False, *[True] * 6]


def test_an_open_loop_counts_from_the_arrival_and_sorts_out_failures() -> None:
    def submit(job: Job) -> Future[Picture]:
        future: Future[Picture] = Future()
        if job.number == 1:
            future.set_exception(IndexError("index 21 is out of bounds"))
        else:
            future.set_result(Png(b"png"))
        return future

    system = System(submit, lambda: Work(0, 0))
    outcome = open_loop(system, plain_trace(0, 20, FORM), 1e5, most_waiting=5)
    assert (outcome.cut_off, outcome.finished, outcome.failed) == (False, 19, 1)
    assert min(seconds for _, seconds in outcome.latencies) >= 0
    assert [job.number for job, _ in outcome.pictures] == [0, *range(2, 16)]
    assert 0 < outcome.occupied_s <= outcome.wall_s


def test_a_closed_loop_keeps_so_many_jobs_in_flight() -> None:
    waiting: list[Future[Picture]] = []
    most = 0
    jobs = plain_trace(0, 12, FORM)

    def submit(job: Job) -> Future[Picture]:
        nonlocal most
        waiting.append(Future())
        future, most = waiting[-1], max(most, len(waiting))
        while len(waiting) == 4 or (waiting and job is jobs[-1]):
            waiting.pop(0).set_result(Png(b""))
        return future

    outcome = closed_loop(System(submit, lambda: Work(0, 0)), jobs, in_flight=4)
    assert (outcome.finished, most) == (12, 4)


# Policies


def waiting_jobs(*steps: int) -> list[Waiting]:
    """One a second, in this order."""
    jobs = plain_trace(0, 200, FORM)
    chosen = []
    for second, count in enumerate(steps):
        job = next(job for job in jobs if job.row.num_inference_steps == count)
        jobs.remove(job)
        chosen.append(Waiting(job, float(second), Future()))
    return chosen


def test_each_policy_chooses_its_own() -> None:
    waiting = waiting_jobs(50, 8, 20, 8, 50, 8)
    assert one_at_a_time(waiting, 8) == waiting[:1]
    assert oldest_key(waiting, 8) == [waiting[0], waiting[4]]
    assert shortest_key(waiting, 2) == [waiting[1], waiting[3]]
    assert arrived_together(2.5)(waiting, 8) == waiting[:3]
    assert arrived_together(9.0)(waiting, 4) == waiting[:4]
    assert by_key(waiting) == [
        [waiting[0], waiting[4]],
        [waiting[1], waiting[3], waiting[5]],
        [waiting[2]],
    ]


# The work file


def test_a_work_file_gives_back_what_was_done_with_the_same_settings(tmp_path: Path) -> None:
    path, run = tmp_path / "work.jsonl", Run(kind="load", system="stepwise", load=0.8, jobs=4)
    settings: dict[str, str | int] = {"model": "tiny", "threads": 1}
    WorkFile(path, settings, Run).put(run, record([(8, 1.5)]))
    with path.open("a") as file:
        file.write('{"settings": {"mod')  # what a kill leaves
    again = WorkFile(path, settings, Run)
    assert again.get(run, Record) == record([(8, 1.5)])
    assert Run(kind="load", system="stepwise", load=0.8, jobs=5) not in again
    assert run not in WorkFile(path, {**settings, "threads": 2}, Run)
    again.put(Run(kind="curves"), 1.0)
    assert len(path.read_text().splitlines()) == 2


# The systems


def test_a_pipeline_serves_whole_batches(tiny_folder: Path) -> None:
    clock = ModelClock(CPU)
    pipeline = Pipeline(str(tiny_folder), CPU, torch.float32, None, clock)
    jobs = [one.job for one in waiting_jobs(8, 20, 8, 8)]
    gate = threading.Event()
    with ThreadPoolExecutor(1) as device_thread, ThreadPoolExecutor(1) as codecs:
        device_thread.submit(gate.wait)
        batcher = Batcher(
            pipeline, oldest_key, most_rows=2, device_thread=device_thread, codecs=codecs
        )
        futures = [batcher.submit(job) for job in jobs]
        futures[3].cancel()
        gate.set()
        found = [future.result(timeout=300).content for future in futures[:3]]
    assert batcher.work() == Work(forwards=8 + 20, lanes=8 * 4 + 20 * 2)
    assert clock.model_s() > 0
    assert found == [png(pipeline.pictures([job])[0]).content for job in jobs[:3]]


def test_a_batch_on_a_timer_is_answered_together(tiny_folder: Path) -> None:
    pipeline = Pipeline(str(tiny_folder), CPU, torch.float32, None, ModelClock(CPU))
    jobs = [one.job for one in waiting_jobs(8, 20, 8)]
    with ThreadPoolExecutor(1) as device_thread, ThreadPoolExecutor(1) as codecs:
        batcher = Batcher(
            pipeline,
            arrived_together(60.0),
            most_rows=3,
            device_thread=device_thread,
            codecs=codecs,
            wait_s=60.0,
        )
        futures = [batcher.submit(job) for job in jobs]  # the third fills the batch
        for future in futures:
            future.result(timeout=300)
    assert batcher.work() == Work(forwards=8 + 20, lanes=8 * 4 + 20 * 2)


def test_a_picture_spoilt_by_a_second_call_is_counted(tiny_folder: Path, rig: Rig) -> None:
    """The second call sets the scheduler's steps while the first is under way."""
    pipeline = Pipeline(str(tiny_folder), CPU, torch.float32, None, ModelClock(CPU))
    first_inside, second_inside = threading.Event(), threading.Event()
    forward = pipeline._unet.forward

    def interleaved(*args: Any, **kwargs: Any) -> Any:
        if not first_inside.is_set():
            first_inside.set()
            second_inside.wait(timeout=300)
        second_inside.set()
        return forward(*args, **kwargs)

    pipeline._unet.forward = interleaved
    first, second = (one.job for one in waiting_jobs(8, 50))
    with ThreadPoolExecutor(2) as threads:
        pool = Pool(pipeline, threads)
        spoilt = pool.submit(first)
        assert first_inside.wait(timeout=300)
        sound = pool.submit(second)
    assert rig.is_wrong(first, spoilt.result().content)
    assert not rig.is_wrong(second, sound.result().content)
    assert not rig.is_wrong(first, png(rig.bare(first)).content)


def test_the_rig_leaves_the_engine_as_it_was(rig: Rig) -> None:
    assert hasattr(StableDiffusion.denoise, "__wrapped__")
    rig.__exit__()
    assert not hasattr(StableDiffusion.denoise, "__wrapped__")


def test_a_random_model_is_a_whole_folder(tmp_path: Path) -> None:
    narrow: dict[str, Any] = {"block_out_channels": (32, 32, 32, 32)}
    text = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 32}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 4}
    models.save_random(
        tmp_path / "random",
        unet={**models.UNET, **narrow, "sample_size": 8, "cross_attention_dim": 32},
        vae={**models.VAE, **narrow, "sample_size": 64},
        text={**models.TEXT, **text},
    )
    source = str(models.folder(str(tmp_path / "random"), tmp_path))
    pipeline = Pipeline(source, CPU, torch.float32, None, ModelClock(CPU))
    assert pipeline.form == Form(64, "DPMSolverMultistepScheduler")
    jobs = plain_trace(0, 1, pipeline.form)
    assert pipeline.pictures(jobs).shape == (1, 64, 64, 3)
    scheduler = json.loads((tmp_path / "random/scheduler/scheduler_config.json").read_text())
    assert scheduler["clip_sample"] is False


@pytest.mark.usefixtures("_verbosity_kept")
def test_a_tiny_benchmark_has_every_figure_and_resumes(tiny_folder: Path, tmp_path: Path) -> None:
    work, figures_file, picture = (tmp_path / name for name in ("w.jsonl", "f.json", "p.png"))
    arguments = ["--model", str(tiny_folder), "--device", "cpu", "--threads", "1", "--lanes", "4"]
    arguments += ["--arrivals", "6", "--seeds", "0", "--loads", "0.8", "--saturation-jobs", "6"]
    arguments += ["--json", str(figures_file), "--plot", str(picture), "--work", str(work)]
    bench_batching.main(arguments)
    found = json.loads(figures_file.read_text())

    for systems in (found["loads"]["0.8"], found["saturation"]["systems"], found["mixed"]["0.8"]):
        assert set(systems) == set(SYSTEMS)
        for name, each in systems.items():
            assert {"images_per_s", "p50_s", "p95_s", "p99_s", "short_p99_s"} <= set(each)
            assert {"lanes_per_step", "outside_model_share", "cut_off"} <= set(each)
            if name != "threads":
                assert (each["wrong_pictures"], each["failed"]) == (0, 0), name
                assert each["checked_pictures"] == each["finished"] == each["jobs"] > 0, name
    assert set(found["loads_of_static"]["0.8"]) == set(WITH_BARS)
    saturation = found["saturation"]
    for key in ("stepwise", "diffusers_loop", "ceiling"):
        assert saturation[f"{key}_images_per_s"] > 0
    assert 0 < found["outside_model_share"] < 1
    assert 2 <= found["lanes_per_step"] <= 4
    assert found["recompiles_after_warmup"] == 0
    assert len(found["bars"]) == 9
    assert 0 < found["previews"]["unwatched_time_share"] < 1
    assert found["about"]["model"] == tiny_folder.name
    assert Image.open(picture).size == (plot.WIDTH, plot.HEIGHT)

    lines = work.read_bytes()
    bench_batching.main(arguments)
    assert work.read_bytes() == lines
    assert json.loads(figures_file.read_text()) == found

    place = arguments.index("--plot")
    no_load = [*arguments[:place], *arguments[place + 2 :], "--no-extras", "--loads"]
    bench_batching.main(no_load)
    assert work.read_bytes() == lines
    saturated = json.loads(figures_file.read_text())
    assert (saturated["loads"], saturated["mixed"]) == ({}, {})
    assert saturated["saturation"]["stepwise_images_per_s"] == saturation["stepwise_images_per_s"]
