"""How many lanes are worth running, and what a step of them costs: measured, not configured.

A warm-up measures a curve of step time against lanes once per device, model and size; real steps
correct it from then on. Pure Python: it knows no torch and reads no clock; the seconds are handed
to it.
"""

import hashlib
import logging
import os
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Hashable
from itertools import pairwise
from pathlib import Path
from typing import Literal

import msgspec

logger = logging.getLogger(__name__)

KNEE_MARGIN = 0.05
"""More lanes that win less than this only make every row of the step later."""

KEYS_KNOWN = 1000
"""Keys whose own cost is kept, the last met: there are as many as sizes."""

LEARNING_RATE = 0.1
"""Of the last step against all before it. A warm-up on a busy machine, once 40 times too dear, is
within a quarter of the truth after 50 steps."""

STALLED = 4.0
"""A step more than so many times dearer than what is known is learnt as so many times: something
held it up, as a compiler does for a minute. A true tenfold is more than half learnt after ten."""


class CapacityCurve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the warm-up measured at the native size, in seconds."""

    lanes: tuple[int, ...]
    """Rising."""
    step_s: tuple[float, ...]
    """One forward of so many lanes."""
    encode_image_s: float
    """One input image."""
    decode_s: float
    """One picture."""

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot have been measured, as a damaged file may hold it."""
        if not self.lanes or any(low >= high for low, high in pairwise((0, *self.lanes))):
            raise ValueError(f"lanes is {self.lanes}: list rising positive numbers")
        if len(self.step_s) != len(self.lanes) or min(self.step_s) <= 0:
            raise ValueError(f"step_s is {self.step_s}: one time above 0 for each of {self.lanes}")

    def fastest(self, known: "CapacityCurve | None") -> "CapacityCurve":
        """The faster of two measurements, bucket by bucket: a busy machine only adds to one."""
        if known is None or known.lanes != self.lanes:
            return self
        return CapacityCurve(
            lanes=self.lanes,
            step_s=tuple(min(pair) for pair in zip(self.step_s, known.step_s, strict=True)),
            encode_image_s=min(self.encode_image_s, known.encode_image_s),
            decode_s=min(self.decode_s, known.decode_s),
        )

    def step_at(self, weight: float) -> float:
        """Seconds of a step of `weight` lanes: linear between buckets, proportional past the last.

        Below the first bucket a step is no cheaper than there.
        """
        above = bisect_left(self.lanes, weight)
        if above == 0:
            return self.step_s[0]
        if above == len(self.lanes):
            return self.step_s[-1] * weight / self.lanes[-1]
        low, high = self.lanes[above - 1], self.lanes[above]
        low_s, high_s = self.step_s[above - 1], self.step_s[above]
        return low_s + (high_s - low_s) * (weight - low) / (high - low)

    def knee(self, margin: float = KNEE_MARGIN, *, least: int = 2) -> int:
        """The fewest lanes whose images per second are within `margin` of the best bucket's, and no
        fewer than `least`, the lanes of one row.

        Held against the best and not against the next bucket: one noisy dip does not end it early.
        """
        rates = [lanes / step_s for lanes, step_s in zip(self.lanes, self.step_s, strict=True)]
        worth = max(rates) / (1 + margin)
        lanes = next(lanes for lanes, rate in zip(self.lanes, rates, strict=True) if rate >= worth)
        return max(lanes, least)


class CurveKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a curve depends on: a curve of another key says nothing."""

    device: str
    """Its name, as `NVIDIA H100 80GB HBM3`."""
    model: str
    source: str
    """Fingerprint or name of the weights."""
    dtype: str
    size: tuple[int, int]
    """Width and height, in pixels."""
    mode: str
    """Of attention and compilation."""
    torch: str
    diffusers: str
    lane_buckets: tuple[int, ...]


class _SavedCurve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: CurveKey
    curve: CapacityCurve


class CurveStore:
    """Curves on disk, one JSON file per key. A cache: without it a start only takes longer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: CurveKey) -> CapacityCurve | None:
        """None where the key was never measured, or its file cannot be used (logged)."""
        path = self._path(key)
        try:
            saved = msgspec.json.decode(path.read_bytes(), type=_SavedCurve)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.warning("capacity curve %s cannot be used, measuring anew: %s", path, error)
            return None
        if saved.key != key:
            logger.warning("capacity curve %s is of %s, measuring anew", path, saved.key)
            return None
        return saved.curve

    def save(self, key: CurveKey, curve: CapacityCurve) -> None:
        """Whole or not at all, whoever else saves; a folder that takes no files is logged."""
        path = self._path(key)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write_whole(path, msgspec.json.encode(_SavedCurve(key, curve)))
        except OSError as error:
            logger.warning("capacity curve %s cannot be saved: %s", path, error)

    def _path(self, key: CurveKey) -> Path:
        return self._folder / f"{hashlib.sha256(msgspec.json.encode(key)).hexdigest()[:16]}.json"


def _write_whole(path: Path, content: bytes) -> None:
    # Replicas of several hosts may share the folder, so that a process id would not be unique.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


class Capacity:
    """What each key may run at once and what that costs, corrected by every step.

    Keys of other sizes share the native curve: their lanes count by area, and what that misses is
    learnt as one factor per key.
    """

    def __init__(
        self,
        curve: CapacityCurve,
        *,
        max_lanes: int,
        margin: float = KNEE_MARGIN,
        lanes_of_row: int = 2,
        alike: Callable[[Hashable], Hashable] = lambda key: key,
    ) -> None:
        """A guided row takes two lanes, and of a model without a second lane one.

        `alike` gives the same for keys that take the same memory and time.
        """
        self.curve, self.lanes_of_row = curve, lanes_of_row
        self.full = min(curve.knee(margin, least=lanes_of_row), max_lanes)
        """Lanes of a full batch, as long as memory lasts."""
        self._lowered: dict[Hashable, float] = {}
        self._factors: dict[Hashable, float] = {}
        self._any_factor = 1.0
        self._alike = alike

    @property
    def lanes(self) -> float:
        """Lanes that may run of any key: the knee, or fewer where memory has run out."""
        return min([self.full, *self._lowered.values()])

    def limit(self, key: Hashable) -> float:
        """Lanes of the native size that rows of this key may have running."""
        return self._lowered.get(self._alike(key), self.full)

    @property
    def usual_step_s(self) -> float:
        """Seconds of a step of `full` lanes, by all steps of late, whatever their keys."""
        return self._any_factor * self.curve.step_at(self.full)

    def step_s(self, key: Hashable, weight: float) -> float:
        """Seconds of a step of `weight` lanes. A key not met yet costs what the others do."""
        return self._factors.get(self._alike(key), self._any_factor) * self.curve.step_at(weight)

    def full_step_s(self, key: Hashable) -> float:
        """Seconds of a step of as many lanes as the key may have running."""
        return self.step_s(key, self.limit(key))

    def lane_call_s(self, key: Hashable) -> float:
        """Seconds that one lane of one model call costs in a full batch."""
        return self.full_step_s(key) / self.limit(key)

    def observe(self, key: Hashable, weight: float, step_s: float) -> None:
        """Learns from a real step. At any weight: the curve tells what it should have taken."""
        key, seen = self._alike(key), step_s / self.curve.step_at(weight)
        known = self._factors.pop(key, self._any_factor)
        self._factors[key] = _learnt(known, seen)
        if len(self._factors) > KEYS_KNOWN:
            del self._factors[next(iter(self._factors))]
        self._any_factor = _learnt(self._any_factor, seen)

    def lower(self, key: Hashable, weight: float) -> None:
        """After an out-of-memory step of `weight` lanes: half of it at most, for good.

        Never below one lane: a row that does not fit alone is refused elsewhere.
        """
        self._lowered[self._alike(key)] = max(1.0, min(self.limit(key), weight / 2))


def _learnt(known: float, seen: float) -> float:
    return known + LEARNING_RATE * (min(seen, STALLED * known) - known)


HeldBack = Literal[
    "no lane free",
    "wider than the lanes free",
    "no lanes free for its size",
    "wider than the capacity, to run alone",
    "others are far more urgent",
]
"""Why a row does not start."""


class Room:
    """The lanes taken of a capacity, by key, while rows are let in one after the other."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self.taken: dict[Hashable, float] = {}

    def refusal(self, key: Hashable, weight: float) -> HeldBack | None:
        """Why a row of `weight` lanes cannot start; None if it can. Alone, a row of any width can.

        All keys share one memory: together they get what the one with the highest limit may have.
        """
        total = sum(self.taken.values())
        if not total:
            return None
        limit = self._capacity.limit(key)
        if weight > limit:
            return "wider than the capacity, to run alone"
        limits = {other: self._capacity.limit(other) for other in self.taken}
        if any(lanes > limits[other] for other, lanes in self.taken.items()):
            return "no lane free"  # one that is wider than its limit runs, and runs alone
        free = max(limit, *limits.values()) - total
        if weight > free:
            return "wider than the lanes free" if free >= 1 else "no lane free"
        if self.taken.get(key, 0.0) + weight > limit:
            return "no lanes free for its size"
        return None

    def is_last(self, key: Hashable, weight: float) -> bool:
        """Whether a row of `weight` lanes would take some of the last eighth that is left."""
        total = sum(self.taken.values())
        most = int(max(map(self._capacity.limit, (key, *self.taken))))
        return total > 0 and total + weight > most - most // 8

    def take(self, key: Hashable, weight: float) -> None:
        """A row of `weight` lanes runs from now on."""
        self.taken[key] = self.taken.get(key, 0.0) + weight
