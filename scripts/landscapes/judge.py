"""From the pixels of a picture alone: its time of day, its ground, and its subject's colour.

The judge knows the world's palette and the outline of the subject that was asked for. It has no
learned part, so it cannot have learned the model's mistakes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as nn_functional

from .canvas import BODY, Canvas, Pixels, vertical_gradient
from .scenery import HORIZON
from .subjects import DRAWERS, Brush
from .world import (
    COLOURS,
    GROUND_LIGHT,
    GROUNDS,
    SIZE,
    SKY,
    SUBJECT_LIGHT,
    TIMES,
    lit,
)

SHADES = (1.0, 0.9, 0.82)
"""The shades in which bodies are painted."""
NEAR = 34.0
"""Distance (of 255) at which a pixel stops looking like a palette colour."""
COARSE = 4
"""The outline is looked for on a picture reduced this much."""
MARGIN = 5
"""Width of the rim around the outline, in coarse pixels."""


@dataclass(frozen=True)
class Verdict:
    """What a picture shows, as far as the judge can see."""

    time: str
    ground: str
    subject_colour: str


def judge(picture: NDArray[np.uint8], subject: str) -> Verdict:
    """Look at one picture of a world with `subject` in it."""
    pixels = picture.astype(np.float32)
    time = _time(pixels)
    return Verdict(time, _ground(pixels, time), _subject_colour(pixels, subject, time))


def _time(pixels: Pixels) -> str:
    rows = slice(4, 64)
    seen = np.median(pixels[rows].mean(axis=0), axis=0)  # the median column has no cloud or moon
    skies = {time: vertical_gradient(SKY[time], 0, HORIZON + 10)[rows, 0] for time in TIMES}
    return min(TIMES, key=lambda time: float(np.linalg.norm(seen - skies[time].mean(axis=0))))


def _ground(pixels: Pixels, time: str) -> str:
    corners = np.concatenate([pixels[216:252, :48], pixels[216:252, -48:]], axis=1)
    seen = np.median(corners.reshape(-1, 3), axis=0)
    expected = {kind: np.array(lit(GROUNDS[kind], GROUND_LIGHT[time], 0.87)) for kind in GROUNDS}
    return min(GROUNDS, key=lambda kind: float(np.linalg.norm(seen - expected[kind])))


def _subject_colour(pixels: Pixels, subject: str, time: str) -> str:
    """The colour that fills the subject's outline best and its rim least, wherever it stands."""
    likeness = torch.from_numpy(_likeness(pixels, time)).permute(2, 0, 1)[:, None]
    reduced = nn_functional.avg_pool2d(likeness, COARSE)
    fit = nn_functional.conv2d(reduced, _outline(subject)[None, None])
    best = fit.flatten(1).max(dim=1).values
    return list(COLOURS)[int(best.argmax())]


def _likeness(pixels: Pixels, time: str) -> Pixels:
    """For each pixel and colour, from 0 to 1, whether the pixel has this colour and no other."""
    shades = np.array(
        [[lit(rgb, SUBJECT_LIGHT[time], shade) for shade in SHADES] for rgb in COLOURS.values()],
        dtype=np.float32,
    )
    distance = np.linalg.norm(pixels[:, :, None, None] - shades, axis=-1).min(axis=-1)
    nearest = distance == distance.min(axis=-1, keepdims=True)
    likeness: Pixels = (nearest * np.exp(-((distance / NEAR) ** 2))).astype(np.float32)
    return likeness


@functools.cache
def _outline(subject: str) -> torch.Tensor:
    """The mean inside the subject's body less the mean on a rim around it, as a convolution."""
    canvas = Canvas(np.zeros((SIZE, SIZE, 3), np.float32))
    DRAWERS[subject](Brush(canvas, SIZE / 2, 180, 1.1, (255, 255, 255), "day"))
    owner = torch.from_numpy(canvas.finish()[1].copy())
    body = nn_functional.avg_pool2d((owner == BODY).float()[None], COARSE)[0]
    anything = nn_functional.avg_pool2d((owner > 0).float()[None], COARSE)[0]
    width = 2 * MARGIN + 1
    grown = nn_functional.max_pool2d(anything[None], width, stride=1, padding=MARGIN)[0]
    rim = ((grown > 0) & (anything == 0)).float()
    weights = body / body.sum() - rim / rim.sum()
    rows, columns = torch.nonzero(grown).unbind(dim=1)
    return weights[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
