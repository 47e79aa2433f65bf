#!/usr/bin/env python
"""The public models at their real size, with random weights, on a GPU: one row at a time.

  matmul   a product of bf16 matrices: what the device can do
  engine   the engine at saturation: images/s, p50, share of the time without any kernel running
  alone    the engine with one picture at a time
  loop     diffusers' eager pipeline, one picture after the other
  parts    text encoders and autoencoder
  step     one step against lanes, eager and compiled, and its share of the matmul's rate

Models are sd15 (512x512, 20 steps), sdxl, sd3 (1024x1024, 20 steps) and flux (28 steps), guided.
With --work, finished rows are kept, and a second start goes on after them and reports them all;
take a new file for new code. What has a bar comes first. Random weights cost what trained ones
cost, and their pictures show nothing.

It needs torch (2.11 or newer), diffusers, transformers, accelerate, msgspec, numba, numpy, scipy,
psutil, opencv-python-headless and pillow, for the rows in 8 bits (int8, fp8) torchao too, but
neither Ray nor any model's files. Where the package is not installed, PYTHONPATH names the
repository.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import diffusers
import torch
import transformers
from about import about_device
from batching.workfile import WorkFile
from gpu.bench import Bench
from gpu.measure import measured
from gpu.plan import all_rows, chosen_rows, is_usual
from gpu.profiling import profiled
from gpu.report import report, tables
from gpu.rig import Rig


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the file, print the tables."""
    options = _options(arguments)
    if options.list:
        for row in all_rows(toy=options.toy):
            print(row.name + ("" if is_usual(row, toy=options.toy) else "  (when asked for)"))
        return
    torch.set_num_threads(options.threads)
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        rig = _rig(options, options.cache or temporary)
        if options.profile:
            print(profiled(rig, options.rows[0]))
            return
        _measure(rig, options)


def _measure(rig: Rig, options: argparse.Namespace) -> None:
    about = _about(options)
    bench = Bench(partial(measured, rig), WorkFile(options.work, about, str))
    bench.run(options.rows)
    results = bench.results(all_rows(toy=options.toy))  # also what was asked for at other starts
    applies = options.device == "cuda" and not options.toy
    found = report(results, about, applies=applies)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print("\n" + tables(found))
    if bench.failed:
        raise SystemExit(f"failed, see above: {', '.join(bench.failed)}")


def _rig(options: argparse.Namespace, cache: str) -> Rig:
    return Rig(
        torch.device(options.device),
        torch.bfloat16,
        toy=options.toy,
        t5_layers=options.t5_layers,
        threads=options.threads,
        cache=cache,
    )


def _about(options: argparse.Namespace) -> dict[str, str | int]:
    """What rows must agree on to be compared."""
    return {
        **about_device(options.device),
        "driver": _driver() if options.device == "cuda" else "none",
        "cuda": torch.version.cuda or "none",
        "torch": str(torch.__version__),
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "dtype": "bfloat16",
        "threads": options.threads,
        "toy": int(options.toy),
        "t5_layers": options.t5_layers or "as published",
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return said.splitlines()[0].strip()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="names of rows, as 'sdxl/*' or sd15/step/max-autotune/8; without, the usual ones",
    )
    parser.add_argument("--list", action="store_true", help="print the rows' names, and no more")
    parser.add_argument("--profile", metavar="ROW", help="where the time of this row goes")
    parser.add_argument("--work", type=Path, metavar="FILE.jsonl", help="keep finished rows here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--cache",
        metavar="FOLDER",
        help="keep compiled kernels here, for a second start on the same machine",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch on the CPU")
    parser.add_argument(
        "--toy", action="store_true", help="tiny models: whether the script runs, not how fast"
    )
    parser.add_argument(
        "--t5-layers", type=int, metavar="N", help="of the T5 in sd3 and flux, to do with less"
    )
    options = parser.parse_args(arguments)
    patterns = [options.profile] if options.profile else options.rows
    try:
        options.rows = chosen_rows(patterns, toy=options.toy)
    except ValueError as error:
        parser.error(str(error))
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    return options


if __name__ == "__main__":
    main()
