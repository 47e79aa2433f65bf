"""The figures of the benchmark, as they go into the JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from rounding import rounded

from .figures import figures, ratios
from .fleet import Record
from .routers import SERVE


class Run(NamedTuple):
    """What identifies one measurement."""

    part: str
    load: str
    router: str
    seed: int


def report(records: Mapping[Run, Record], about: Mapping[str, Any]) -> dict[str, Any]:
    """Part -> load -> router -> its figures and their ratios; floats to five digits."""
    pooled: defaultdict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for run, record in records.items():
        pooled[run.part, run.load, run.router].append(record)
    found: defaultdict[str, defaultdict[str, dict[str, Any]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for (part, load, router), some in pooled.items():
        found[part][load][router] = figures(some)
    for loads in found.values():
        for routers in loads.values():
            for router, each in routers.items():
                if router != SERVE:
                    each["to_power_of_two"] = ratios(each, routers[SERVE])
    five_digits: dict[str, Any] = rounded(
        {**{part: dict(loads) for part, loads in found.items()}, "about": dict(about)}
    )
    return five_digits
