"""The world: which scenes exist, their colours and their light.

It knows nothing about drawing, words or training.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import TypeAlias

Rgb: TypeAlias = tuple[float, float, float]

SIZE = 256
"""Width and height of a picture in pixels."""

COLOURS: dict[str, Rgb] = {
    "red": (212, 42, 44),
    "blue": (44, 96, 214),
    "yellow": (250, 214, 44),
    "white": (246, 245, 240),
    "green": (44, 150, 72),
    "purple": (130, 62, 178),
    "orange": (246, 132, 32),
    "pink": (250, 142, 190),
}
SUBJECTS = ("house", "tree", "tower", "castle", "windmill", "boat", "balloon", "mushroom")
GROUNDS: dict[str, Rgb] = {
    "green": (104, 176, 78),
    "snowy": (234, 240, 250),
    "golden": (224, 180, 88),
    "sea": (42, 126, 172),
}
TIMES = ("day", "sunset", "night")

SUBJECT_LIGHT: dict[str, Rgb] = {
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.90, 0.84),
    "night": (0.76, 0.79, 0.96),  # bright enough that a colour can still be named
}
GROUND_LIGHT: dict[str, Rgb] = {
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.78, 0.68),
    "night": (0.48, 0.51, 0.70),
}
SKY: dict[str, tuple[Rgb, Rgb, Rgb]] = {  # top, middle, horizon
    "day": ((66, 138, 226), (118, 182, 240), (196, 228, 246)),
    "sunset": ((78, 56, 132), (226, 104, 106), (255, 196, 112)),
    "night": ((10, 13, 42), (22, 29, 74), (46, 58, 116)),
}

HELD_OUT_SHARE = 0.1
SAME_COLOUR = {("green", "green"), ("snowy", "white"), ("golden", "yellow"), ("sea", "blue")}
"""(ground, colour) pairs that do not exist: the subject would melt into its ground."""


@dataclass(frozen=True)
class Scene:
    """What a picture shows: a subject of one colour, standing on a ground, at a time of day."""

    colour: str
    subject: str
    ground: str
    time: str

    @property
    def held_out(self) -> bool:
        """Whether training never sees this combination; decided by a hash, so it never moves."""
        words = f"{self.colour} {self.subject} {self.ground} {self.time}"
        return hashlib.sha256(words.encode()).digest()[0] < 256 * HELD_OUT_SHARE


def all_scenes() -> list[Scene]:
    """Every scene of the world, in a fixed order."""
    combinations = itertools.product(COLOURS, SUBJECTS, GROUNDS, TIMES)
    return [
        Scene(colour, subject, ground, time)
        for colour, subject, ground, time in combinations
        if (ground, colour) not in SAME_COLOUR
    ]


def training_scenes() -> list[Scene]:
    """The scenes that training draws."""
    return [scene for scene in all_scenes() if not scene.held_out]


def held_out_scenes() -> list[Scene]:
    """The scenes kept for evaluation."""
    return [scene for scene in all_scenes() if scene.held_out]


def lit(colour: Rgb, light: Rgb, shade: float = 1.0) -> Rgb:
    """A colour under a light, brightened or darkened by `shade`."""
    red, green, blue = (
        min(255.0, part * lamp * shade) for part, lamp in zip(colour, light, strict=True)
    )
    return (red, green, blue)


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """`first` with `share` of `second` in it."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return (red, green, blue)
