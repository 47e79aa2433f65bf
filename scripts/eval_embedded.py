#!/usr/bin/env python
"""Does the embedded model draw what it is asked? A judge looks at scenes that training never saw.

For every held-out combination of colour, subject, ground and time, five seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from landscapes import folder, pictures
from landscapes.captions import prompt
from landscapes.judge import Verdict, judge
from landscapes.world import COLOURS, GROUNDS, TIMES, Scene, held_out_scenes

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ROOT / "deployments" / "diffusion" / "embedded"
SEEDS = (0, 1, 2, 3, 4)
DRAWINGS = 420
"""Drawn pictures of held-out scenes on which the judge itself is judged."""


Judged = list[tuple[Scene, Verdict]]


@dataclass(frozen=True)
class Aspect:
    """One thing that is judged: its words, what was asked, what the judge saw."""

    words: tuple[str, ...]
    asked: Callable[[Scene], str]
    seen: Callable[[Verdict], str]


ASPECTS = {
    "time": Aspect(TIMES, lambda scene: scene.time, lambda verdict: verdict.time),
    "ground": Aspect(tuple(GROUNDS), lambda scene: scene.ground, lambda verdict: verdict.ground),
    "subject_colour": Aspect(
        tuple(COLOURS), lambda scene: scene.colour, lambda verdict: verdict.subject_colour
    ),
}


def main() -> None:
    """Generate, judge, print the tables, and write the figures."""
    options = _options()
    torch.set_num_threads(options.threads)
    scenes = held_out_scenes()
    judged = list(_generated(options, scenes))
    drawn = pictures.held_out_set(DRAWINGS, seed=0)
    checked = [
        (scene, judge(pixels, scene.subject))
        for scene, pixels in zip(drawn.scenes, drawn.pixels, strict=True)
    ]
    figures = {
        "prompts": len(scenes),
        **{name: round(_share_right(judged, name), 4) for name in ASPECTS},
        "judge_on_drawings": round(min(_share_right(checked, name) for name in ASPECTS), 4),
    }
    for name, aspect in ASPECTS.items():
        _print_confusion(judged, name, aspect)
    if options.json == "-":
        print(json.dumps(figures))
    elif options.json:
        Path(options.json).write_text(json.dumps(figures) + "\n")
    else:
        for name, figure in figures.items():
            print(f"{name}: {figure}")


def _generated(
    options: argparse.Namespace, scenes: Sequence[Scene]
) -> Iterator[tuple[Scene, Verdict]]:
    pipeline = folder.load(options.model)
    for number, scene in enumerate(scenes, start=1):
        drawn = folder.generate(
            pipeline,
            [prompt(scene)] * len(SEEDS),
            list(SEEDS),
            steps=options.steps,
            guidance=options.guidance,
        )
        for pixels in drawn:
            yield scene, judge(pixels, scene.subject)
        if number % 10 == 0:
            print(f"{number}/{len(scenes)} prompts", file=sys.stderr, flush=True)


def _share_right(judged: Judged, name: str) -> float:
    aspect = ASPECTS[name]
    right = [aspect.asked(scene) == aspect.seen(verdict) for scene, verdict in judged]
    return sum(right) / len(judged)


def _print_confusion(judged: Judged, name: str, aspect: Aspect) -> None:
    """Rows are what was asked, columns what the judge saw."""
    counts = Counter((aspect.asked(scene), aspect.seen(verdict)) for scene, verdict in judged)
    words = aspect.words
    print(f"\n{name:>14} " + "".join(f"{word:>8}" for word in words))
    for row in words:
        print(f"{row:>14} " + "".join(f"{counts[row, column]:>8}" for column in words))
    print(flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    parser.add_argument("--steps", type=int, default=folder.DEFAULT_STEPS)
    parser.add_argument("--guidance", type=float, default=folder.DEFAULT_GUIDANCE)
    parser.add_argument("--json", metavar="FILE", help="write the figures here; - is stdout")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    return parser.parse_args()


if __name__ == "__main__":
    main()
