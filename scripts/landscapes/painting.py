"""One scene in, one picture out; the same generator state gives the same picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import scenery
from .canvas import Canvas, Pixels
from .subjects import DRAWERS, Brush, footing
from .world import COLOURS, GROUND_LIGHT, GROUNDS, Scene, lit


def paint(scene: Scene, rng: np.random.Generator) -> tuple[Pixels, NDArray[np.uint8]]:
    """The picture (0 to 255) and the owner of every pixel: scenery, part or body of the subject."""
    sky, place = scenery.sky(scene.time, rng)
    canvas = Canvas(sky)
    scenery.heavens(canvas, scene.time, place, rng)
    scenery.ground(canvas, scene.ground, scene.time, place, rng)

    x, y = float(rng.uniform(104, 152)), float(rng.uniform(200, 214))
    brush = Brush(canvas, x, y, float(rng.uniform(1.0, 1.2)), COLOURS[scene.colour], scene.time)
    footing(
        brush, scene.subject, scene.ground, lit(GROUNDS[scene.ground], GROUND_LIGHT[scene.time])
    )
    if scene.subject == "balloon":
        brush.y -= float(rng.uniform(14, 30)) * brush.scale
    DRAWERS[scene.subject](brush)
    return canvas.finish(waterline=y + 6 if scene.ground == "sea" else None)
