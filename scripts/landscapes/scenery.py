"""Sky, lights and ground: everything in a picture but the subject."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, Pixels, Point, add_glow, vertical_gradient
from .world import GROUND_LIGHT, GROUNDS, SIZE, SKY, Rgb, lit, mix

HORIZON = 150.0


def sky(time: str, rng: np.random.Generator) -> tuple[Pixels, float]:
    """The sky with its sun or moon glow, and where across the picture that light stands."""
    top, middle, low = SKY[time]
    picture = vertical_gradient((top, middle, low), 0, HORIZON + 10)
    place = float(rng.uniform(18, 74) if rng.random() < 0.5 else rng.uniform(182, 238))
    if time == "sunset":
        picture = add_glow(picture, place, HORIZON - 8, 92, (255, 226, 140), 0.85)
    elif time == "day":
        picture = add_glow(picture, place, 44, 60, (255, 250, 220), 0.6)
    else:
        picture = add_glow(picture, place, 44, 46, (120, 134, 196), 0.55)
    return picture, place


def heavens(canvas: Canvas, time: str, place: float, rng: np.random.Generator) -> None:
    """Sun, or moon and stars, and clouds."""
    if time == "day":
        canvas.ellipse(place, 44, 17, 17, (255, 240, 170))
        canvas.ellipse(place, 44, 14, 14, (255, 247, 205))
        _clouds(canvas, (250, 252, 255), (222, 234, 248), rng)
    elif time == "sunset":
        canvas.ellipse(place, HORIZON - 10, 27, 27, (255, 236, 158))
        canvas.ellipse(place, HORIZON - 10, 23, 23, (255, 244, 190))
        _clouds(canvas, (244, 150, 126), (196, 96, 122), rng)
    else:
        _stars(canvas, rng)
        _moon(canvas, place, rng)


def _stars(canvas: Canvas, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(16, 26))):
        x, y = float(rng.uniform(4, 252)), float(rng.uniform(4, 118))
        size = float(rng.uniform(0.7, 1.3))
        canvas.ellipse(x, y, size, size, (236, 238, 255))
    for _ in range(4):
        x, y, arm = float(rng.uniform(10, 246)), float(rng.uniform(8, 90)), 4.0
        points = [(x, y - arm), (x + 1, y - 1), (x + arm, y), (x + 1, y + 1)]
        points += [(x, y + arm), (x - 1, y + 1), (x - arm, y), (x - 1, y - 1)]
        canvas.polygon(points, (255, 252, 228))


def _moon(canvas: Canvas, place: float, rng: np.random.Generator) -> None:
    pale = (250, 244, 214)
    if rng.random() < 0.5:  # a full moon with three craters
        canvas.ellipse(place, 44, 17, 17, pale)
        for x, y, size in ((-5, -4, 4.0), (6, 3, 3.0), (-2, 8, 2.4)):
            canvas.ellipse(place + x, 44 + y, size, size, (226, 218, 188))
    else:  # a crescent: a polygon between two arcs
        turn = np.linspace(-np.pi / 2, np.pi / 2, 40)
        outer = [(place - 17 * np.cos(a), 44 + 17 * np.sin(a)) for a in turn]
        inner = [(place - 7 * np.cos(a) + 2, 44 + 17 * np.sin(a)) for a in turn[::-1]]
        canvas.polygon(outer + inner, pale)


def _clouds(canvas: Canvas, bright: Rgb, under: Rgb, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(2, 4))):
        x, y = float(rng.uniform(20, 236)), float(rng.uniform(24, 96))
        width = float(rng.uniform(22, 36))
        puffs = ((-0.7, 2, 0.42), (-0.25, -5, 0.55), (0.3, -2, 0.62), (0.8, 3, 0.36))
        for offset, drop, size in puffs:
            canvas.ellipse(x + offset * width, y + drop + 2, size * width, size * 17, under)
        for offset, drop, size in puffs:
            canvas.ellipse(x + offset * width - 1, y + drop - 1, size * width, size * 15, bright)


def ground(canvas: Canvas, kind: str, time: str, place: float, rng: np.random.Generator) -> None:
    """The sea, or two lines of far hills and the near slope that the subject stands on."""
    near = lit(GROUNDS[kind], GROUND_LIGHT[time])
    haze = SKY[time][2]
    if kind == "sea":
        _sea(canvas, near, time, place, rng)
        return
    _hill(canvas, HORIZON - 16, 12, mix(near, haze, 0.62), rng)
    _hill(canvas, HORIZON + 2, 10, mix(near, haze, 0.34), rng)
    crest = _hill(canvas, HORIZON + 22, 6, near, rng)
    _slope(canvas, crest, near)
    _growth(canvas, kind, near, rng)


def _hill(
    canvas: Canvas, height: float, swing: float, colour: Rgb, rng: np.random.Generator
) -> list[Point]:
    phase, second = rng.uniform(0, 2 * np.pi, size=2)
    length = float(rng.uniform(120, 190))
    xs = np.linspace(-4, SIZE + 4, 66)
    ys = height - swing * np.sin(2 * np.pi * xs / length + phase)
    ys = ys - 0.35 * swing * np.sin(4 * np.pi * xs / length + second)
    crest = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
    canvas.polygon([*crest, (SIZE + 4, SIZE + 4), (-4, SIZE + 4)], colour)
    return crest


def _slope(canvas: Canvas, crest: list[Point], near: Rgb) -> None:
    bottom = [(SIZE + 4.0, SIZE + 4.0), (-4.0, SIZE + 4.0)]
    for step in range(1, 13):
        lower = [(x, y + 5.5 * step + 0.02 * (x - 128) * step / 4) for x, y in crest]
        canvas.polygon(lower + bottom, lit(near, (1.0, 1.0, 1.0), 1.0 - 0.017 * step))


def _growth(canvas: Canvas, kind: str, near: Rgb, rng: np.random.Generator) -> None:
    """Firs on snow, bushes on green, sheaves on gold, all in a shade of the hill's own colour."""
    for _ in range(int(rng.integers(3, 6))):
        x = float(rng.uniform(8, 72) if rng.random() < 0.5 else rng.uniform(184, 248))
        y = float(rng.uniform(178, 240))
        size = (y - 120) / 100
        dark = lit(near, (0.66, 0.74, 0.72) if kind != "golden" else (0.78, 0.72, 0.62))
        if kind == "snowy":
            for tier in range(3):
                top, half = y - (26 - 7 * tier) * size, (4 + 2.2 * tier) * size
                points = [(x, top), (x - half, top + 11 * size), (x + half, top + 11 * size)]
                canvas.polygon(points, dark)
        elif kind == "green":
            canvas.ellipse(x, y, 9 * size, 6 * size, dark)
            canvas.ellipse(x - 2 * size, y - 2.5 * size, 6 * size, 4 * size, mix(dark, near, 0.45))
        else:
            for lean in (-5, -2, 0, 2, 5):
                tip = (x + lean * size, y - 12 * size + abs(lean) * 0.5 * size)
                canvas.polygon([(x - 1.5, y), tip, (x + 1.5, y)], dark)


def _sea(canvas: Canvas, near: Rgb, time: str, place: float, rng: np.random.Generator) -> None:
    horizon = HORIZON - 2
    far = mix(near, SKY[time][2], 0.42)
    for band in range(22):
        share = 1 - (1 - band / 22) ** 2
        top = horizon + 5 * band
        canvas.polygon(
            [(-4, top), (SIZE + 4, top), (SIZE + 4, SIZE + 4), (-4, SIZE + 4)],
            mix(far, lit(near, (1.0, 1.0, 1.0), 0.86), share),
        )
    glint = {"day": (236, 248, 255), "sunset": (255, 220, 140), "night": (206, 212, 240)}[time]
    for row in range(16):  # the light's path on the water
        y = horizon + 4 + 6 * row
        half = 5 + 0.9 * row + float(rng.uniform(-3, 3))
        x = place + float(rng.uniform(-4, 4))
        canvas.ellipse(x, y, half, 0.9, mix(near, glint, 0.8))
    for _ in range(16):  # small waves
        y = float(rng.uniform(horizon + 6, 252))
        half = (y - horizon) / 12 + 2
        x = float(rng.uniform(0, SIZE))
        canvas.ellipse(x, y, half, 0.7, mix(near, SKY[time][2], 0.45))
