#!/usr/bin/env python
"""Every optimisation as one switch: what it gains, costs and changes, against the plain model.

Each row runs in a process of its own, with a saturated engine: `step_ms` is the median step of a
full batch, `images_per_s` is from arrival to file, `peak_mib` what torch holds at most, weights
included, `max_diff` (of 255) and `psnr_db` (100: the same) tell the pictures from the plain ones
of the same seeds. `plain` is float32, eager, contiguous, with torch's own attention. `plain_large`
and `vae_tiling` make one picture of four times the side. `best` is every switch together that alone
won 2 % and kept 30 dB. What cannot run here is `skipped`, with the error of its start.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from batching import models
from optimizations.child import measured
from optimizations.likeness import difference
from optimizations.measure import Job
from optimizations.plan import BEST, PLAIN, PLAIN_SETTINGS, Switch, best, switches
from optimizations.tables import tables
from rounding import rounded

ROOT = Path(__file__).resolve().parent.parent
STEPS, QUICK_STEPS = 20, 6
ROUNDS, QUICK_ROUNDS = 5, 2
LARGE_STEPS = 4


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the file, print the table."""
    options = _options(arguments)
    wanted = [switch for switch in switches(options.tiny_vae) if _is_wanted(switch, options)]
    found: dict[str, dict[str, Any]] = {}
    about = _about(options)
    with tempfile.TemporaryDirectory() as folder:
        for switch in wanted:
            found[switch.name] = _row(switch, options, Path(folder))
        if options.best:
            combined = best(found, {switch.name: switch for switch in wanted})
            about["best"] = dict(combined.settings)
            found[BEST] = _row(combined, options, Path(folder))
    report = rounded({"about": about, **found})
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print("\n" + tables(report))


def _row(switch: Switch, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    print(switch.name, file=sys.stderr, flush=True)
    pictures = folder / f"{switch.name}.npy"
    settings = {
        "id": "bench",
        "source": str(models.folder(options.model, ROOT / "build")),
        "device": options.device,
        "threads": options.threads,
        "cache_folder": str(folder / switch.name),
        "max_queue_s": 1e9,
        **PLAIN_SETTINGS,
        **switch.settings,
    }
    figures = measured(
        Job(
            settings=settings,
            asked=dict(switch.asked),
            is_large=switch.is_large,
            steps=min(options.steps, LARGE_STEPS) if switch.is_large else options.steps,
            lanes=2 if switch.is_large else options.lanes,
            rounds=options.rounds,
            pictures=str(pictures),
        )
    )
    if "skipped" in figures:
        return figures
    return {**figures, **difference(np.load(pictures), np.load(folder / f"{switch.against}.npy"))}


def _is_wanted(switch: Switch, options: argparse.Namespace) -> bool:
    """With --quick nothing is compiled."""
    if options.switches:
        return switch.name in (PLAIN, *options.switches)
    return not (options.quick and "compile" in switch.settings)


def _about(options: argparse.Namespace) -> dict[str, Any]:
    on_cuda = options.device == "cuda"
    processor = f"CPU {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "model": Path(options.model).name,
        "device": options.device,
        "device_name": torch.cuda.get_device_name() if on_cuda else processor,
        "cores": os.cpu_count() or 1,
        "threads": options.threads,
        "lanes": options.lanes,
        "steps": options.steps,
        "rounds": options.rounds,
        "torch": str(torch.__version__),
        "diffusers": diffusers.__version__,
        "python": platform.python_version(),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--model",
        default="embedded",
        help=f"embedded, a diffusers folder, or {models.RANDOM_SD15}: SD 1.5's size, random",
    )
    parser.add_argument("--steps", type=int, help=f"of a picture ({STEPS}; quick {QUICK_STEPS})")
    parser.add_argument("--rounds", type=int, help=f"({ROUNDS}; quick {QUICK_ROUNDS})")
    parser.add_argument("--lanes", type=int, default=16, help="of a full batch; two a picture")
    parser.add_argument("--quick", action="store_true", help="few steps, and nothing compiled")
    parser.add_argument("--switches", nargs="+", metavar="NAME", help="only these, as the table")
    parser.add_argument("--best", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--tiny-vae", default="", metavar="FOLDER", help="an AutoencoderTiny")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch's, on the CPU")
    options = parser.parse_args(arguments)
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    options.steps = options.steps or (QUICK_STEPS if options.quick else STEPS)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    known = [switch.name for switch in switches(options.tiny_vae)]
    if unknown := set(options.switches or ()) - set(known):
        parser.error(f"--switches has {', '.join(unknown)}; choose from {', '.join(known)}")
    return options


if __name__ == "__main__":
    main()
