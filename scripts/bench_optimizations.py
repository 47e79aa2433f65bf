#!/usr/bin/env python
"""Every optimisation as one switch: what it gains, costs and changes, against the plain model.

Each row runs in a process of its own, with a full batch: `step_ms` is a round's mean step, the
median of all rounds, `images_per_s` is from arrival to file, `peak_mib` what torch holds at most,
weights included, `max_diff` (of 255) and `psnr_db` (100: the same) tell the pictures from those of
the same seeds without the switch. `plain` is float32, eager, contiguous, with torch's own
attention. What sets `bfloat16` besides is compared with that row, `int8_compiled` and its like with
`compile_default`. `plain_large` and `vae_tiling` make one picture of four times the side. `best` is
every switch together that alone won 2 % and kept 30 dB. What cannot run here is `skipped`, with the
error of its start; what broke is `failed`, and the others run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from about import about_device
from batching import models
from likeness import difference
from optimizations.child import measured
from optimizations.measure import Job
from optimizations.plan import BEST, PLAIN, PLAIN_SETTINGS, Switch, best, switches, with_baselines
from optimizations.tables import tables
from rounding import rounded

ROOT = Path(__file__).resolve().parent.parent
STEPS, QUICK_STEPS = 20, 6
LEAST_STEPS = 3
"""The first one encodes too, and the last one decodes."""
ROUNDS, QUICK_ROUNDS = 5, 2
LARGE_STEPS = 4


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the file after each row, print the table. Raises SystemExit if one failed."""
    options = _options(arguments)
    wanted = _wanted(options)
    report: dict[str, Any] = {"about": _about(options)}
    with tempfile.TemporaryDirectory() as folder:
        for switch in wanted:
            report[switch.name] = _row(switch, options, Path(folder))
            _write(report, options.json)
        if options.best and "step_ms" in report[PLAIN]:
            combined = best(report, {switch.name: switch for switch in wanted})
            report["about"]["best"] = dict(combined.settings)
            report[BEST] = _row(combined, options, Path(folder))
            _write(report, options.json)
    print("\n" + tables(rounded(report)))
    if failed := [name for name, row in report.items() if "failed" in row]:
        raise SystemExit(f"failed, see above: {', '.join(failed)}")


def _write(report: Mapping[str, Any], path: Path | None) -> None:
    if path is not None:
        path.write_text(json.dumps(rounded(report), indent=1) + "\n")


def _row(switch: Switch, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Its figures; the difference only where what it is compared with has pictures."""
    print(switch.name, file=sys.stderr, flush=True)
    pictures, baseline = folder / f"{switch.name}.npy", folder / f"{switch.against}.npy"
    try:
        figures = measured(_job(switch, options, folder, pictures))
    except RuntimeError as error:
        print(error, file=sys.stderr, flush=True)
        return {"failed": str(error).splitlines()[-1]}
    if "skipped" in figures or not baseline.exists():
        return figures
    return {**figures, **difference(np.load(pictures), np.load(baseline))}


def _job(switch: Switch, options: argparse.Namespace, folder: Path, pictures: Path) -> Job:
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
    return Job(
        settings=settings,
        asked=dict(switch.asked),
        is_large=switch.is_large,
        steps=min(options.steps, LARGE_STEPS) if switch.is_large else options.steps,
        lanes=2 if switch.is_large else options.lanes,
        rounds=options.rounds,
        pictures=str(pictures),
    )


def _wanted(options: argparse.Namespace) -> list[Switch]:
    """What was asked for, with what it is compared with; with --quick nothing that is compiled."""
    known = {switch.name: switch for switch in switches(options.tiny_vae)}
    if options.switches:
        return with_baselines(options.switches, known)
    return [s for s in known.values() if not (options.quick and "compile" in s.settings)]


def _about(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": Path(options.model).name,
        **about_device(options.device),
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
    parser.add_argument(
        "--lanes", type=int, default=16, help="of a full batch; most often two a picture"
    )
    parser.add_argument("--quick", action="store_true", help="few steps, and nothing compiled")
    parser.add_argument("--switches", nargs="+", metavar="NAME", help="only these, as the table")
    parser.add_argument("--best", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--tiny-vae", default="", metavar="FOLDER", help="an AutoencoderTiny")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch's, on the CPU")
    options = parser.parse_args(arguments)
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.tiny_vae:
        options.tiny_vae = str(Path(options.tiny_vae).resolve())  # the rows run in another folder
    options.steps = options.steps or (QUICK_STEPS if options.quick else STEPS)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    if options.steps < LEAST_STEPS:
        parser.error(f"--steps is {options.steps}: use {LEAST_STEPS} or more")
    known = [switch.name for switch in switches(options.tiny_vae)]
    if unknown := set(options.switches or ()) - set(known):
        parser.error(f"--switches has {', '.join(unknown)}; choose from {', '.join(known)}")
    return options


if __name__ == "__main__":
    main()
