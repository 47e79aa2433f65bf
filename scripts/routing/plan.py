"""What is run: which rows, on which model, through which routers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from batching.trace import Form

from deployments.diffusion.families.paced import Pace, read_pace
from deployments.diffusion.settings import Adapter, DiffusionSettings

from .routers import OURS, ROUTERS, SERVE
from .trace import Mix

PACE = Path(__file__).resolve().parent.parent.parent / "configs" / "paces" / "h100-sdxl.json"
"""Slow enough that two cores route its rows: with SD 1.5's they were what a row waited for."""
SCHEDULER = "EulerDiscreteScheduler"
PACED_SIDE = 64
"""Pictures smaller than the native square take the device as long, and leave the cores alone."""
PACED_REPLICAS = 4
MAX_QUEUE_S = 18.0
"""A dozen of the long rows: one that is given to a full replica comes back."""
SHARES = {"half long": 0.5, "a tenth long": 0.1}
"""Mixes of the paced engine, and the share of long rows in each."""

ADAPTERS = "adapters"
EMBEDDED_SIDE = 256
EMBEDDED_REPLICAS = 3
KEPT, FILES = 3, 8
"""Adapters that a replica keeps in memory, and how many there are."""


class Part(NamedTuple):
    """Rows of one kind on one model."""

    name: str
    settings: DiffusionSettings
    replicas: int
    mix: Mix
    routers: Sequence[str]
    rates: Sequence[float]
    """Rows per second, one for each load."""


def skewed(name: str, loads: Sequence[float]) -> Part:
    """Short and long rows on an engine that keeps an H100's time.

    `loads` are shares of what the replicas would do if their batches were always full.
    """
    mix = Mix(SHARES[name], Form(PACED_SIDE, SCHEDULER))
    full_per_s = PACED_REPLICAS / _row_s(read_pace(PACE), mix)
    return Part(
        name=name,
        settings=DiffusionSettings(
            id="bench", source="paced", pace=str(PACE), threads=1, max_queue_s=MAX_QUEUE_S
        ),
        replicas=PACED_REPLICAS,
        mix=mix,
        routers=tuple(ROUTERS),
        rates=[load * full_per_s for load in loads],
    )


def with_adapters(files: Sequence[Path], per_s: float) -> Part:
    """Short rows over more adapters than a replica keeps, on the embedded model."""
    adapters = [Adapter(name=path.stem, source=str(path)) for path in files]
    return Part(
        name=ADAPTERS,
        settings=DiffusionSettings(
            id="bench",
            source="embedded",
            device="cpu",
            threads=1,
            adapters=tuple(adapters),
            max_adapters_loaded=KEPT,
        ),
        replicas=EMBEDDED_REPLICAS,
        mix=Mix(0.0, Form(EMBEDDED_SIDE, SCHEDULER), tuple(each.name for each in adapters)),
        routers=(SERVE, OURS),
        rates=[per_s],
    )


def _row_s(pace: Pace, mix: Mix) -> float:
    """What a mean row takes of a replica; each is guided, so that it has two lanes."""
    lane_s = pace.curve.step_s[-1] / pace.curve.lanes[-1]
    steps = sum(mix.block) / len(mix.block)
    return 2 * (steps * lane_s + pace.prompt_s) + pace.curve.decode_s
