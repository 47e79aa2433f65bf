"""The eight subjects. Each carries its colour in one large region, lit from the left.

A subject is drawn around (0, 0), the middle of its foot, with y downwards and a height near 100.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .canvas import BODY, PART, Canvas, Point
from .world import SUBJECT_LIGHT, Rgb, lit, mix

SLATE: Rgb = (84, 78, 92)
WOOD: Rgb = (112, 80, 58)
STONE: Rgb = (150, 146, 142)
CREAM: Rgb = (236, 226, 200)
GLASS: Rgb = (74, 92, 118)
LAMP: Rgb = (255, 216, 120)
SAND: Rgb = (206, 186, 142)


@dataclass
class Brush:
    """Draws in a subject's own coordinates, under the light of the time of day."""

    canvas: Canvas
    x: float
    y: float
    scale: float
    colour: Rgb
    time: str

    def body(self, points: list[Point], shade: float = 1.0) -> None:
        """A polygon in the subject's colour."""
        self.canvas.polygon(self._placed(points), self._tint(shade), BODY)

    def round_body(self, x: float, y: float, rx: float, ry: float, shade: float = 1.0) -> None:
        """An ellipse in the subject's colour."""
        self._ellipse(x, y, rx, ry, self._tint(shade), BODY)

    def part(self, points: list[Point], colour: Rgb) -> None:
        """A polygon of another material."""
        self.canvas.polygon(self._placed(points), lit(colour, SUBJECT_LIGHT[self.time]), PART)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Rgb) -> None:
        """An upright rectangle of another material."""
        self.part([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def round_part(self, x: float, y: float, rx: float, ry: float, colour: Rgb) -> None:
        """An ellipse of another material."""
        self._ellipse(x, y, rx, ry, lit(colour, SUBJECT_LIGHT[self.time]), PART)

    def stroke(self, points: list[Point], width: float, colour: Rgb) -> None:
        """A line of another material."""
        ink = lit(colour, SUBJECT_LIGHT[self.time])
        self.canvas.line(self._placed(points), width * self.scale, ink, PART)

    def window(self, x: float, y: float, width: float, height: float) -> None:
        """A window; after sunset somebody is at home."""
        left, top = self._placed([(x - width / 2, y - height / 2)])[0]
        right, bottom = self._placed([(x + width / 2, y + height / 2)])[0]
        dark = self.time == "day"
        pane = GLASS if dark else LAMP
        self.canvas.rectangle(left, top, right, bottom, pane)
        if not dark:
            middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
            self.canvas.glow(middle_x, middle_y, 9 * self.scale, LAMP, 0.55)

    def _placed(self, points: list[Point]) -> list[Point]:
        return [(self.x + x * self.scale, self.y + y * self.scale) for x, y in points]

    def _ellipse(self, x: float, y: float, rx: float, ry: float, ink: Rgb, owner: int) -> None:
        x, y = self._placed([(x, y)])[0]
        self.canvas.ellipse(x, y, rx * self.scale, ry * self.scale, ink, owner)

    def _tint(self, shade: float) -> Rgb:
        return lit(self.colour, SUBJECT_LIGHT[self.time], shade)


def _house(brush: Brush) -> None:
    brush.box(18, -84, 28, -52, SLATE)
    brush.body([(-36, 0), (-36, -48), (36, -48), (36, 0)])
    brush.body([(-36, -48), (0, -82), (36, -48)])
    brush.body([(14, 0), (14, -68.8), (36, -48), (36, 0)], 0.84)
    brush.stroke([(-45, -41), (0, -84), (45, -41)], 7, SLATE)
    brush.box(-8, -28, 8, 0, WOOD)
    brush.window(-23, -28, 13, 15)
    brush.window(24, -28, 11, 15)
    brush.window(0, -55, 11, 11)


def _tree(brush: Brush) -> None:
    brush.part([(-7, 0), (-5, -44), (5, -44), (8, 0)], WOOD)
    crown = ((0, -52, 36), (-18, -66, 26), (19, -64, 26), (0, -84, 27))
    for x, y, size in crown:
        brush.round_body(x + 2, y + 2, size, size * 0.84, 0.82)
    for x, y, size in crown:
        brush.round_body(x - 3, y - 3, size * 0.84, size * 0.7)
    brush.round_body(-14, -84, 13, 9, 1.1)


def _tower(brush: Brush) -> None:
    brush.body([(-22, 0), (-19, -88), (19, -88), (22, 0)])
    brush.body([(6, 0), (6, -88), (19, -88), (22, 0)], 0.82)
    brush.body([(-25, -86), (-25, -98), (25, -98), (25, -86)])
    for left in (-25, -10.5, 4, 17):
        brush.body([(left, -97), (left, -106), (left + 8, -106), (left + 8, -97)])
    brush.box(-25, -87, 25, -84, SLATE)
    brush.box(-7, -22, 7, 0, WOOD)
    brush.window(-6, -68, 9, 14)
    brush.window(-6, -42, 9, 14)


def _castle(brush: Brush) -> None:
    for left, right in ((-48, -24), (24, 48)):
        middle = (left + right) / 2
        brush.body([(left, 0), (left, -62), (right, -62), (right, 0)])
        brush.body([(middle + 3, 0), (middle + 3, -62), (right, -62), (right, 0)], 0.82)
        brush.part([(left - 4, -61), (middle, -92), (right + 4, -61)], SLATE)
        brush.window(middle - 2, -42, 7, 12)
    brush.body([(-24, 0), (-24, -42), (24, -42), (24, 0)], 0.94)
    for left in (-24, -8, 8):
        brush.body([(left, -41), (left, -50), (left + 9, -50), (left + 9, -41)], 0.94)
    brush.box(-10, -20, 10, 0, WOOD)
    brush.round_part(0, -20, 10, 10, WOOD)


def _windmill(brush: Brush) -> None:
    brush.body([(-27, 0), (-17, -74), (17, -74), (27, 0)])
    brush.body([(7, 0), (4, -74), (17, -74), (27, 0)], 0.82)
    brush.part([(-19, -73), (-12, -86), (0, -91), (12, -86), (19, -73)], SLATE)
    brush.box(-7, -22, 7, 0, WOOD)
    brush.window(-5, -42, 10, 12)
    for turn in np.pi / 4 + np.arange(4) * np.pi / 2:
        along, across = (
            np.array([np.cos(turn), np.sin(turn)]),
            np.array([-np.sin(turn), np.cos(turn)]),
        )
        hub = np.array([0.0, -76.0])
        sail = [hub + 10 * along, hub + 45 * along, hub + 45 * along + 9 * across]
        sail.append(hub + 12 * along + 9 * across)
        brush.part([(float(x), float(y)) for x, y in sail], CREAM)
        tip = hub + 46 * along
        brush.stroke([(0, -76), (float(tip[0]), float(tip[1]))], 3, WOOD)
    brush.round_part(0, -76, 4, 4, WOOD)


def _boat(brush: Brush) -> None:
    brush.stroke([(0, -18), (0, -104)], 3, WOOD)
    brush.body([(4, -102), (4, -28), (44, -28)], 0.9)
    brush.body([(-4, -92), (-4, -28), (-34, -28)])
    brush.body([(-48, -22), (48, -22), (34, 2), (-34, 2)])
    brush.body([(-38, -6), (38, -6), (34, 2), (-34, 2)], 0.8)
    brush.stroke([(-47, -19), (47, -19)], 4, CREAM)


def _balloon(brush: Brush) -> None:
    for side in (-1, 1):
        brush.stroke([(side * 22, -56), (side * 6, -22)], 1.6, WOOD)
    brush.round_body(0, -84, 38, 38, 0.84)
    brush.body([(-34, -66), (34, -66), (12, -34), (-12, -34)], 0.84)
    brush.round_body(-6, -84, 30, 37)
    brush.body([(-33, -70), (20, -70), (7, -34), (-12, -34)])
    brush.round_body(-8, -84, 13, 37, 0.88)
    brush.body([(-20, -70), (4, -70), (0, -34), (-7, -34)], 0.88)
    brush.box(-12, -36, 12, -32, CREAM)
    brush.box(-9, -22, 9, -9, WOOD)


def _mushroom(brush: Brush) -> None:
    brush.part([(-13, 0), (-11, -46), (11, -46), (14, 0)], CREAM)
    brush.part([(3, 0), (3, -46), (11, -46), (14, 0)], mix(CREAM, SLATE, 0.2))
    turn = np.linspace(np.pi, 2 * np.pi, 30)
    dome: list[Point] = [(float(46 * np.cos(a)), float(-40 + 48 * np.sin(a))) for a in turn]
    brush.body([*dome, (36, -32), (0, -29), (-36, -32)], 0.82)
    inner: list[Point] = [(float(-5 + 38 * np.cos(a)), float(-42 + 43 * np.sin(a))) for a in turn]
    brush.body([*inner, (24, -38), (-34, -38)])
    for x, y, size in ((-22, -54, 6.5), (2, -70, 7.5), (22, -54, 6.0)):
        brush.round_part(x, y, size, size * 0.86, (216, 200, 172))


DRAWERS: dict[str, Callable[[Brush], None]] = {
    "house": _house,
    "tree": _tree,
    "tower": _tower,
    "castle": _castle,
    "windmill": _windmill,
    "boat": _boat,
    "balloon": _balloon,
    "mushroom": _mushroom,
}


def footing(brush: Brush, subject: str, ground: str, ground_colour: Rgb) -> None:
    """What is under the subject: an island in the sea, else its shadow; a boat floats."""
    if ground == "sea" and subject not in ("boat", "balloon"):
        brush.round_part(0, 3, 66, 9, mix(SAND, SLATE, 0.35))
        brush.round_part(0, 0, 64, 8, SAND)
    elif ground != "sea":
        reach = 26 if subject == "balloon" else 52
        shadow = mix(ground_colour, (30, 34, 62), 0.32)
        brush.canvas.ellipse(brush.x + 8, brush.y + 1, reach * brush.scale, 6, shadow)
