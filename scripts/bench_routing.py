#!/usr/bin/env python
"""Rows to replicas: Serve's router, which counts requests, against ours, which knows work.

  half long, a tenth long  rows of 50 steps among rows of 4; four replicas of an engine that keeps
                           an H100's time with SDXL (`source: paced`), two callers with a router
                           each; ours also with two replicas asked and not four
  adapters                 rows over more LoRAs than a replica keeps in memory, three replicas of
                           the embedded model: how often an adapter is read from its file

Poisson arrivals in real time, the same for every router, on a real Ray Serve on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from routing import plan
from routing.fleet import Fleet, Record, deployed
from routing.lora import save_adapters
from routing.plan import ADAPTERS, SHARES, Part
from routing.report import Run, report
from routing.tables import tables
from routing.trace import trace
from server.serving import running_serve

PARTS = (*SHARES, ADAPTERS)
LOADS, QUICK_LOADS = (0.1, 0.8), (0.8,)
SEEDS, QUICK_SEEDS = (0, 1), (0,)
SECONDS, QUICK_SECONDS = 60.0, 20.0
ADAPTER_ROWS_PER_S = 3.0
WARM_S = 3.0
"""Of a trace before the one that counts: engines, handles and samplers are warm after it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the file, print the tables."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as folder, running_serve():
        records = dict(_measured(_parts(options, Path(folder)), options))
    found = report(records, _about(options))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print("\n" + tables(found))


def _parts(options: argparse.Namespace, folder: Path) -> list[Part]:
    parts = [plan.skewed(name, options.loads) for name in SHARES if name in options.parts]
    if ADAPTERS in options.parts:
        files = save_adapters(folder, plan.FILES)
        parts.append(plan.with_adapters(files, options.adapter_rows_per_s))
    return parts


def _measured(parts: Sequence[Part], options: argparse.Namespace) -> Iterator[tuple[Run, Record]]:
    """All routers with one trace, then with the next: a busy moment falls on several of them."""
    for part in parts:
        for seed in options.seeds:
            for per_s in part.rates:
                for router in part.routers:
                    run = Run(part.name, f"{per_s:.3g} rows/s", router, seed)
                    print(", ".join(map(str, run)), file=sys.stderr, flush=True)
                    with deployed(part.settings, router=router, replicas=part.replicas) as fleet:
                        yield run, _record(fleet, part, seed, per_s, options.seconds)


def _record(fleet: Fleet, part: Part, seed: int, per_s: float, seconds: float) -> Record:
    warm = trace(1000 + seed, max(1, round(WARM_S * per_s)), part.mix)
    fleet.replay(warm, per_s)
    return fleet.replay(trace(seed, max(1, round(seconds * per_s)), part.mix), per_s)


def _about(options: argparse.Namespace) -> dict[str, Any]:
    chosen = {name: value for name, value in vars(options).items() if name not in ("json", "quick")}
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    return {**chosen, **machine, "ray": version("ray"), "torch": version("torch")}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="less of it: about eight minutes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--loads",
        nargs="+",
        type=float,
        help="of the paced engines, as shares of what full batches would do "
        f"({_listed(LOADS)}; quick {_listed(QUICK_LOADS)})",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, help=f"({_listed(SEEDS)}; quick {_listed(QUICK_SEEDS)})"
    )
    parser.add_argument(
        "--seconds", type=float, help=f"of each trace ({SECONDS:g}; quick {QUICK_SECONDS:g})"
    )
    parser.add_argument(
        "--adapter-rows-per-s", type=float, default=ADAPTER_ROWS_PER_S, metavar="N",
        help=f"of the part with adapters ({ADAPTER_ROWS_PER_S:g})",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    options.loads = options.loads or (QUICK_LOADS if options.quick else LOADS)
    options.seeds = options.seeds or (QUICK_SEEDS if options.quick else SEEDS)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    return options


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


if __name__ == "__main__":
    main()
