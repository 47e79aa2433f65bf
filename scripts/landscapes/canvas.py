"""A canvas with smooth edges that remembers which pixels belong to the subject.

Shapes are drawn three times as large and reduced; soft lights are added after the reduction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .world import SIZE, Rgb

Pixels: TypeAlias = NDArray[np.float32]
Point: TypeAlias = tuple[float, float]

ZOOM = 3
SCENERY, PART, BODY = 0, 128, 255
"""What a shape belongs to: the scenery, a detail of the subject, or its coloured body."""

_ROWS, _COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)


class Canvas:
    """A picture in the making; coordinates are pixels of the finished picture."""

    def __init__(self, background: Pixels) -> None:
        small = Image.fromarray(background.clip(0, 255).astype(np.uint8))
        big = (SIZE * ZOOM, SIZE * ZOOM)
        self._image = small.resize(big, Image.Resampling.BILINEAR)
        self._owner = Image.new("L", big, SCENERY)
        self._draw = ImageDraw.Draw(self._image)
        self._draw_owner = ImageDraw.Draw(self._owner)
        self._lights: list[tuple[float, float, float, Rgb, float]] = []

    def polygon(self, points: Sequence[Point], colour: Rgb, owner: int = SCENERY) -> None:
        """A filled polygon."""
        big = [(x * ZOOM, y * ZOOM) for x, y in points]
        self._draw.polygon(big, fill=_ink(colour))
        self._draw_owner.polygon(big, fill=owner)

    def rectangle(
        self, left: float, top: float, right: float, bottom: float, colour: Rgb, owner: int = PART
    ) -> None:
        """A filled upright rectangle."""
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        self.polygon(corners, colour, owner)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Rgb, owner: int = SCENERY
    ) -> None:
        """A filled ellipse around (x, y)."""
        box = [(x - rx) * ZOOM, (y - ry) * ZOOM, (x + rx) * ZOOM, (y + ry) * ZOOM]
        self._draw.ellipse(box, fill=_ink(colour))
        self._draw_owner.ellipse(box, fill=owner)

    def line(self, points: Sequence[Point], width: float, colour: Rgb, owner: int = PART) -> None:
        """A line of the given width."""
        big = [(x * ZOOM, y * ZOOM) for x, y in points]
        self._draw.line(big, fill=_ink(colour), width=round(width * ZOOM), joint="curve")
        self._draw_owner.line(big, fill=owner, width=round(width * ZOOM))

    def glow(self, x: float, y: float, radius: float, colour: Rgb, strength: float) -> None:
        """A soft light that is added to the finished picture."""
        self._lights.append((x, y, radius, colour, strength))

    def finish(self, *, waterline: float | None = None) -> tuple[Pixels, NDArray[np.uint8]]:
        """The picture (0 to 255) and, for every pixel, its owner."""
        picture = np.asarray(self._image.reduce(ZOOM), dtype=np.float32)
        owner = np.asarray(self._owner.resize((SIZE, SIZE), Image.Resampling.NEAREST))
        if waterline is not None:
            picture = _reflected(picture, owner, round(waterline))
        for x, y, radius, colour, strength in self._lights:
            picture = add_glow(picture, x, y, radius, colour, strength)
        return picture.clip(0, 255), owner


def add_glow(
    picture: Pixels, x: float, y: float, radius: float, colour: Rgb, strength: float
) -> Pixels:
    """Blend a round light into a picture; it falls off like a bell curve."""
    distance = (_COLUMNS - x) ** 2 + (_ROWS - y) ** 2
    share = (strength * np.exp(-distance / (radius * radius)))[..., None]
    blended: Pixels = picture + (np.asarray(colour, np.float32) - picture) * share
    return blended


def vertical_gradient(stops: Sequence[Rgb], top: float, bottom: float) -> Pixels:
    """A picture whose rows go from the first stop at `top` to the last at `bottom`."""
    places = np.linspace(top, bottom, len(stops))
    rows = np.arange(SIZE)
    bands = [np.interp(rows, places, [stop[band] for stop in stops]) for band in range(3)]
    column = np.stack(bands, axis=-1).astype(np.float32)
    return np.repeat(column[:, None, :], SIZE, axis=1)


def _ink(colour: Rgb) -> tuple[int, int, int]:
    red, green, blue = (max(0, min(255, round(part))) for part in colour)
    return (red, green, blue)


def _reflected(picture: Pixels, owner: NDArray[np.uint8], waterline: int) -> Pixels:
    """The subject mirrored in the water below `waterline`, fading with depth, wavering a little."""
    depth = min(SIZE - waterline, waterline)
    rows = np.arange(depth)
    sway = np.round(1.5 * np.sin(rows / 2.2)).astype(int)
    columns = (np.arange(SIZE)[None, :] + sway[:, None]).clip(0, SIZE - 1)
    source = (waterline - 1 - rows)[:, None]
    share = np.where(owner[source, columns] > SCENERY, 0.42, 0.0) * np.exp(-rows / 55)[:, None]
    water = picture[waterline : waterline + depth]
    still_water = owner[waterline : waterline + depth] == SCENERY
    blended = water + (picture[source, columns] - water) * (share * still_water)[..., None]
    result = picture.copy()
    result[waterline : waterline + depth] = blended
    return result
