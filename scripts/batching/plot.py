"""The latencies at one load as a picture: for each system, the share of jobs done in time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from .records import Record
from .trace import SHORT

WIDTH, HEIGHT = 1240, 560
FINER = 4
"""Lines are drawn so much larger and then reduced, which smooths them."""
TOP, BOTTOM, SIDE, BETWEEN = 86, 108, 66, 56
LONG_AXIS = 3.5
"""Powers of ten that leave no room for three labels each."""

PAPER, INK, GREY, GRID = (255, 255, 255), (32, 33, 36), (95, 99, 104), (226, 228, 232)
COLOURS = {
    "stepwise": (208, 56, 38),
    "static_per_key": (31, 92, 173),
    "static_sjf": (30, 142, 100),
    "serve_batch_naive": (124, 77, 178),
    "stepwise_fifo": (233, 150, 96),
    "sequential": (120, 124, 130),
    "threads": (178, 140, 60),
}

Point = tuple[float, float]


class Panel(NamedTuple):
    """One pair of axes; pixels, and seconds on a logarithmic axis."""

    left: float
    width: float
    first_s: float
    last_s: float

    def x(self, seconds: float) -> float:
        """Pixels from the left edge of the picture."""
        share = math.log(seconds / self.first_s) / math.log(self.last_s / self.first_s)
        return self.left + self.width * share


def draw(systems: Mapping[str, Record], title: str) -> Image.Image:
    """Two panels on the same axes: 8-step jobs on the left, all jobs on the right."""
    everyone = {name: [s for _, s in record.latencies] for name, record in systems.items()}
    short = {
        name: [s for steps, s in record.latencies if steps == SHORT]
        for name, record in systems.items()
    }
    seconds = [s for latencies in everyone.values() for s in latencies]
    panel_width = (WIDTH - 2 * SIDE - BETWEEN) / 2
    left = Panel(SIDE, panel_width, min(seconds) * 0.9, max(seconds) * 1.05)
    right = left._replace(left=SIDE + panel_width + BETWEEN)
    picture = Image.new("RGB", (WIDTH * FINER, HEIGHT * FINER), PAPER)
    canvas = ImageDraw.Draw(picture)
    for panel, latencies in ((left, short), (right, everyone)):
        _grid(canvas, panel)
        for name in reversed(latencies):  # the first system is drawn last, above the others
            width = 3.6 if name == "stepwise" else 2.2
            _line(canvas, _steps(panel, latencies[name]), COLOURS[name], width)
    picture = picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    _label(ImageDraw.Draw(picture), left, right, title)
    _legend(ImageDraw.Draw(picture), systems)
    return picture


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _steps(panel: Panel, values: Sequence[float]) -> list[Point]:
    """The empirical distribution: up by 1/n at every latency."""
    points: list[Point] = []
    for done, seconds in enumerate(sorted(values)):
        x = panel.x(seconds)
        points += [(x, _y(done / len(values))), (x, _y((done + 1) / len(values)))]
    return points


def _line(
    canvas: ImageDraw.ImageDraw, points: Sequence[Point], colour: tuple[int, ...], width: float
) -> None:
    fine = [(x * FINER, y * FINER) for x, y in points]
    canvas.line(fine, fill=colour, width=round(width * FINER), joint="curve")


def _grid(canvas: ImageDraw.ImageDraw, panel: Panel) -> None:
    right = panel.left + panel.width
    for share in (0, 0.25, 0.5, 0.75, 0.95, 1):
        _line(canvas, [(panel.left, _y(share)), (right, _y(share))], GRID, 1)
    for seconds in _ticks(panel):
        x = panel.x(seconds)
        _line(canvas, [(x, _y(0)), (x, _y(1))], GRID, 1)
    _line(canvas, [(panel.left, _y(0)), (right, _y(0))], GREY, 1.2)


def _ticks(panel: Panel) -> list[float]:
    """1, 2, 5, 10, ... seconds, and their fractions; on a long axis powers of ten alone."""
    first, last = math.log10(panel.first_s), math.log10(panel.last_s)
    digits = (1, 2, 5) if last - first < LONG_AXIS else (1,)
    powers = range(math.floor(first), math.ceil(last) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in digits]
    return [tick for tick in ticks if panel.first_s <= tick <= panel.last_s]


def _label(canvas: ImageDraw.ImageDraw, left: Panel, right: Panel, title: str) -> None:
    canvas.text((SIDE, 16), title, INK, _font(22))
    for panel, words in ((left, f"{SHORT}-step jobs"), (right, "all jobs")):
        canvas.text((panel.left, TOP - 30), words, INK, _font(17))
        canvas.text(
            (panel.left + panel.width, TOP - 28),
            "share of jobs done within ...",
            GREY,
            _font(14),
            anchor="ra",
        )
        for share in (0, 0.25, 0.5, 0.75, 0.95, 1):
            place = (panel.left - 8, _y(share))
            canvas.text(place, f"{share:.0%}", GREY, _font(13), anchor="rm")
        for seconds in _ticks(panel):
            place = (panel.x(seconds), _y(0) + 8)
            canvas.text(place, f"{seconds:g} s", GREY, _font(13), anchor="ma")


def _legend(canvas: ImageDraw.ImageDraw, systems: Mapping[str, Record]) -> None:
    x, y = float(SIDE), HEIGHT - 48
    for name, record in systems.items():
        words = f"{name} (cut off)" if record.cut_off else name
        canvas.rounded_rectangle((x, y - 3, x + 20, y + 3), 3, COLOURS[name])
        canvas.text((x + 26, y), words, INK, _font(14), anchor="lm")
        x += 26 + _font(14).getlength(words) + 18


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
