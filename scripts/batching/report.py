"""The figures of a benchmark, as they go into the JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec
from rounding import rounded

from .bars import bars
from .curves import Curves
from .plan import BAR_LOAD
from .records import Kind, Record, Run, figures, images_per_s, merged, outside_model_share
from .systems import PREVIEWED, SYSTEMS
from .trace import MEAN_LANE_STEPS


def report(
    records: Mapping[Run, Record], curves: Curves, loop_per_s: float, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything, floats to five digits. Ratios are of unrounded figures."""
    engine = merged([r for run, r in records.items() if _is(run, "saturation", "stepwise")])
    saturation = {
        "stepwise_images_per_s": images_per_s(engine),
        "diffusers_loop_images_per_s": loop_per_s,
        "ceiling_images_per_s": 1 / curves.image_s(MEAN_LANE_STEPS),
    }
    loads = _by_load(records, "load")
    previews = _previews(records)
    found = bars(loads.get(f"{BAR_LOAD:g}", {}), saturation, previews)
    everything = {
        "loads": loads,
        "saturation": {
            **saturation,
            "systems": _by_load(records, "saturation")["0"],
            "curves": msgspec.to_builtins(curves),
        },
        "outside_model_share": outside_model_share(engine),
        "lanes_per_step": engine.lanes / engine.forwards,
        "recompiles_after_warmup": sum(
            record.recompiles for run, record in records.items() if run.system == "stepwise"
        ),
        "previews": previews,
        "mixed": _by_load(records, "mixed"),
        "loads_of_static": _by_load(records, "load_of_static"),
        "bars": [msgspec.to_builtins(bar) | {"met": bar.met} for bar in found],
        "about": dict(about),
    }
    five_digits: dict[str, Any] = rounded(everything)
    return five_digits


def pooled(records: Mapping[Run, Record], kind: Kind) -> dict[str, dict[str, Record]]:
    """Load, rising, as text -> system -> its runs of this kind, all seeds as one."""
    runs: defaultdict[float, defaultdict[str, list[Record]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for run, record in records.items():
        if run.kind == kind:
            runs[run.load][run.system].append(record)
    return {
        f"{load:g}": {name: merged(runs[load][name]) for name in SYSTEMS if name in runs[load]}
        for load in sorted(runs)
    }


def _previews(records: Mapping[Run, Record]) -> dict[str, float]:
    """What watching costs at saturation: nobody's share of the time, everybody's throughput."""
    runs = {run.system: record for run, record in records.items() if run.kind == "previews"}
    if PREVIEWED not in runs:
        return {}
    unwatched, watched = runs["stepwise"], runs[PREVIEWED]
    return {
        "unwatched_time_share": unwatched.telling_s / unwatched.wall_s,
        "watched_time_share": watched.telling_s / watched.wall_s,
        "watched_throughput_share": images_per_s(watched) / images_per_s(unwatched),
    }


def _by_load(records: Mapping[Run, Record], kind: Kind) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        load: {name: figures(record) for name, record in systems.items()}
        for load, systems in pooled(records, kind).items()
    }


def _is(run: Run, kind: Kind, system: str) -> bool:
    return run.kind == kind and run.system == system
