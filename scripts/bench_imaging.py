#!/usr/bin/env python
"""What pixels cost, against the usual ways to handle them: four parts, each against its rivals.

  prepare  decoded pixels to normalised planes of another size; against Pillow, OpenCV, each with
           NumPy, and plain NumPy. Of OpenCV's filters only `area` is antialiased
  arrays   planes to bytes, compositing, grey, alpha on white, masks to latents; against NumPy
  files    PNG, JPEG and WebP, both ways; against Pillow as it comes, and OpenCV
  paths    a file to planes and planes to a file through Ray Serve; against the same done inline in
           a coroutine, and on a thread

All but `paths` runs in one thread. Rivals take turns, and a figure is the median of all rounds.
The pictures: `photo` has smooth structure and noise of sigma 2, `smooth` is it without the noise,
`flat` a drawing of three colours, `embedded` a picture of the embedded model, enlarged.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy reads it once, when it is loaded

import cv2
from imaging import arrays, files, paths, preparation
from imaging.embedded import embedded
from imaging.pictures import flat, smooth
from imaging.report import report
from imaging.tables import tables
from imaging.turns import Effort, Figures

from deployments.imaging import kernels

PARTS = ("prepare", "arrays", "files", "paths")
SIZES, QUICK_SIZES = (512, 1024, 2048), (1024,)
ROUNDS, QUICK_ROUNDS = 40, 15
BUDGET_S, QUICK_BUDGET_S = 1.5, 0.3
LIBRARIES = (
    "numba",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "ray",
    "torch",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the file, print the tables."""
    options = _options(arguments)
    cv2.setNumThreads(1)
    kernels.warm_up()
    found = report(_measure(options), _about(options))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print("\n" + tables(found))


def _measure(options: argparse.Namespace) -> dict[str, Figures]:
    """The parts that were asked for, one at a time."""
    effort = Effort(rounds=options.rounds, budget_s=options.budget_s)
    found: dict[str, Figures] = {}
    for size in options.sizes:
        if "prepare" in options.parts:
            _say(f"prepare, {size} px")
            found |= preparation.measure(size, effort)
        if "arrays" in options.parts:
            _say(f"arrays, {size} px")
            found |= arrays.measure(size, effort)
        if "files" in options.parts:
            _say(f"files, {size} px")
            others = {"smooth": smooth(size), "flat": flat(size), "embedded": embedded(size)}
            found |= files.measure(size, others, effort)
    if "paths" in options.parts:
        _say(f"paths, {options.side} px")
        found |= paths.measure(options.side, effort)
    return found


def _about(options: argparse.Namespace) -> dict[str, Any]:
    settings = {
        name: value for name, value in vars(options).items() if name not in ("json", "quick")
    }
    libraries = {name: version(name) for name in LIBRARIES}
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    return {**settings, **machine, **libraries}


def _processor() -> str:
    """Its name, where Linux tells it; else its kind."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _say(part: str) -> None:
    print(part, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="1024 px only, fewer rounds: about two minutes"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        help="of the square pictures, in pixels "
        f"({' '.join(map(str, SIZES))}; quick {' '.join(map(str, QUICK_SIZES))})",
    )
    parser.add_argument(
        "--side", type=int, default=1024, help="of the picture in `paths`, in pixels (1024)"
    )
    parser.add_argument(
        "--rounds", type=int, help=f"in which rivals take turns ({ROUNDS}; quick {QUICK_ROUNDS})"
    )
    parser.add_argument(
        "--budget-s",
        type=float,
        help="seconds of a rival in one operation, from which on it sits rounds out "
        f"({BUDGET_S:g}; quick {QUICK_BUDGET_S:g})",
    )
    options = parser.parse_args(arguments)
    if options.sizes is None:
        options.sizes = list(QUICK_SIZES if options.quick else SIZES)
    if options.rounds is None:
        options.rounds = QUICK_ROUNDS if options.quick else ROUNDS
    if options.budget_s is None:
        options.budget_s = QUICK_BUDGET_S if options.quick else BUDGET_S
    return options


if __name__ == "__main__":
    main()
