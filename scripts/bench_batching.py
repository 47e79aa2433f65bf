#!/usr/bin/env python
"""Step-level batching against what else one could do: the same trace for every system.

Jobs of 8, 20, 30 and 50 steps arrive at random, at shares of what `stepwise` serves when it is
saturated. All is measured in real time on one model, without Ray; nothing is simulated:

  sequential         one pipeline call at a time
  threads            a thread pool over one pipeline; its wrong pictures are counted
  serve_batch_naive  what Ray's @serve.batch does: whole calls, batched on a timer
  static_per_key     a first-come queue for each (size, steps, guidance, sampler)
  static_sjf         the same queues, shortest job first
  stepwise_fifo      our engine, first come
  stepwise           our engine

A system with more than 16 full batches of jobs inside does not keep up and is cut off; its
latencies are then lower bounds. With --work, finished runs are kept, and a second start with the
same settings goes on after them; take a new file for new code.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path

import diffusers
import torch
import transformers
from about import about_device
from batching import models, plot
from batching.bench import Bench
from batching.plan import (
    BAR_LOAD,
    Choice,
    jobs_without_bar,
    load_runs,
    open_run,
    with_fitting_jobs,
)
from batching.records import Run, images_per_s
from batching.report import pooled, report
from batching.rig import Rig
from batching.systems import PREVIEWED, SYSTEMS, WITH_BARS
from batching.tables import tables
from batching.workfile import WorkFile

from deployments.diffusion.settings import DiffusionSettings

ROOT = Path(__file__).resolve().parent.parent
LOADS = (0.5, BAR_LOAD, 0.95)
SEEDS = (0, 1, 2)
JOBS = 340
"""Arrivals of a run: with three seeds a little more than 1,000."""
LOOP_ROUNDS, QUICK_LOOP_ROUNDS = 5, 2
SATURATION_JOBS, QUICK_SATURATION_JOBS = 320, 96


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the files, print the tables."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    about = _about(options)
    done = WorkFile(options.work, about, Run)
    # A new cache, so that the engine goes by what this machine costs now.
    with (
        tempfile.TemporaryDirectory() as cache,
        Rig(_settings(options, cache), batch_wait_s=options.batch_wait_s) as rig,
    ):
        bench = Bench(rig, done)
        choice = _measure(bench, options)
        curves, loop_per_s = bench.curves(), bench.loop_per_s(options.loop_rounds)
    about_all = {**about, "arrivals": choice.jobs, "seeds": list(choice.seeds)}
    found = report(bench.records, curves, loop_per_s, about_all)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.plot:
        _plot(bench, about, options.plot)
    print("\n" + tables(found))


def _measure(bench: Bench, options: argparse.Namespace) -> Choice:
    """All runs, in an order in which an interrupted benchmark has what matters most."""
    # 1. What the parts cost alone, a bare loop, and the engine at saturation.
    bench.curves()
    loop_per_s = bench.loop_per_s(options.loop_rounds)
    capacity_per_s = images_per_s(bench.record(_saturation("stepwise", options)))

    # 2. The open loops; those with bars first.
    jobs = options.arrivals or JOBS
    choice = Choice(options.systems, options.loads, options.seeds, jobs, options.quick)
    if options.quick and options.arrivals is None:
        choice = with_fitting_jobs(choice, capacity_per_s, loop_per_s)
    for run in load_runs(choice, capacity_per_s):
        bench.record(run)

    # 3. What has no bar.
    if options.extras:
        _measure_extras(bench, choice, options, capacity_per_s)
    return choice


def _measure_extras(
    bench: Bench, choice: Choice, options: argparse.Namespace, capacity_per_s: float
) -> None:
    """The cost of previews, the other systems at saturation, the mixed trace, and 80 % of
    static_per_key's capacity."""
    for system in ("stepwise", PREVIEWED):
        bench.record(Run(kind="previews", system=system, jobs=options.saturation_jobs // 2))
    for system in choice.systems:
        bench.record(_saturation(system, options))
    seed, jobs = choice.seeds[0], jobs_without_bar(choice)
    mixed_per_s = capacity_per_s / bench.mixed_work(seed)
    static_per_s = images_per_s(bench.record(_saturation("static_per_key", options)))
    for system in choice.systems:
        bench.record(open_run("mixed", system, BAR_LOAD, mixed_per_s, seed, jobs))
    for system in choice.systems:
        if system in WITH_BARS:
            bench.record(open_run("load_of_static", system, BAR_LOAD, static_per_s, seed, jobs))


def _saturation(system: str, options: argparse.Namespace) -> Run:
    """Systems without a bar at saturation have half as many jobs."""
    jobs = options.saturation_jobs if system == "stepwise" else options.saturation_jobs // 2
    return Run(kind="saturation", system=system, jobs=jobs)


def _plot(bench: Bench, about: dict[str, str | int], path: Path) -> None:
    systems = pooled(bench.records, "load")[f"{BAR_LOAD:g}"]
    arrivals = max(len(record.latencies) for record in systems.values())
    title = (
        f"Latency at {BAR_LOAD:.0%} of the capacity of stepwise: {about['model']}, "
        f"{about['device_name']}, {about['dtype']}, {arrivals} arrivals"
    )
    plot.draw(systems, title).save(path, optimize=True)


def _settings(options: argparse.Namespace, cache: str) -> DiffusionSettings:
    buckets = [2**power for power in range(options.lanes.bit_length())]
    return DiffusionSettings(
        id="bench",
        source=str(models.folder(options.model, ROOT / "build")),
        device=options.device,
        dtype=options.dtype,
        compile=options.compile,
        lane_buckets=tuple(buckets),
        cache_folder=cache,
        threads=options.threads,
        max_queue_s=1e9,  # a refused job would be no longer one of the trace
    )


def _about(options: argparse.Namespace) -> dict[str, str | int]:
    """What runs must agree on to be compared."""
    return {
        "model": Path(options.model).name,
        **about_device(options.device),
        "cores": os.cpu_count() or 1,
        "threads": options.threads,
        "dtype": options.dtype,
        "memory_format": "channels_last",
        "compile": options.compile,
        "lanes": options.lanes,
        "batch_wait_ms": round(1e3 * options.batch_wait_s),
        "torch": str(torch.__version__),
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_what_is_run(parser)
    _add_what_it_runs_on(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the latencies as a PNG")
    parser.add_argument("--work", type=Path, metavar="FILE.jsonl", help="keep finished runs here")
    options = parser.parse_args(arguments)
    if options.plot and BAR_LOAD not in options.loads:
        parser.error(f"--plot draws load {BAR_LOAD:g}, which is not among --loads")
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.quick:
        options.seeds = options.seeds[:1]
    if options.extras is None:
        options.extras = not options.quick
    if options.saturation_jobs is None:
        options.saturation_jobs = QUICK_SATURATION_JOBS if options.quick else SATURATION_JOBS
    options.loop_rounds = QUICK_LOOP_ROUNDS if options.quick else LOOP_ROUNDS
    return options


def _add_what_is_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one seed, as many arrivals as fit into a quarter of an hour, no extras",
    )
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument(
        "--loads", nargs="*", type=float, default=LOADS, help="shares of capacity; none is allowed"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="one trace each")
    parser.add_argument("--arrivals", type=int, help=f"of each run ({JOBS})")
    parser.add_argument(
        "--saturation-jobs",
        type=int,
        help=f"jobs of a closed loop ({SATURATION_JOBS}; quick {QUICK_SATURATION_JOBS})",
    )
    parser.add_argument(
        "--extras",
        action=argparse.BooleanOptionalAction,
        help="all systems at saturation, a mixed trace, and 80 %% of static_per_key's capacity",
    )
    parser.add_argument(
        "--batch-wait-s",
        type=float,
        default=0.1,
        help="the timer of serve_batch_naive, as in Ray's documentation (0.1)",
    )


def _add_what_it_runs_on(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="embedded",
        help=f"embedded, a diffusers folder, or {models.RANDOM_SD15}: SD 1.5's size, random",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument(
        "--compile", choices=("off", "default", "reduce-overhead", "max-autotune"), default="off"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch's, on the CPU")
    parser.add_argument(
        "--lanes", type=int, default=16, help="of a full batch, a power of two; two for each job"
    )


if __name__ == "__main__":
    main()
