#!/usr/bin/env python
"""The contact sheet of the README: fixed prompts, fixed seeds, one tidy grid."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from landscapes import folder
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ROOT / "deployments" / "diffusion" / "embedded"
COLUMNS = 4
CELL, GAP, TEXT_HEIGHT = 232, 10, 22
PAPER, INK = (250, 249, 246), (70, 68, 74)

PROMPTS = (
    "a red house on snowy hills at night",
    "a white balloon on the sea by day",
    "a pink castle on golden hills at sunset",
    "a yellow windmill on green hills by day",
    "a purple mushroom on green hills at sunset",
    "an orange boat on the sea at night",
    "a blue tower on golden hills by day",
    "a green tree on snowy hills at sunset",
    "a white house on green hills at night",
    "a red boat on the sea at sunset",
    "a pink tree on green hills by day",
    "an orange mushroom on snowy hills at night",
    "a purple castle on the sea at night",
    "a blue balloon on golden hills at sunset",
    "a yellow tower on the sea at sunset",
    "a green windmill on snowy hills by day",
)


def main() -> None:
    """Generate the pictures and lay them out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "contact_sheet.jpg")
    parser.add_argument("--steps", type=int, default=folder.DEFAULT_STEPS)
    options = parser.parse_args()
    torch.set_num_threads(2)
    pipeline = folder.load(options.model)
    pictures = folder.generate(
        pipeline,
        list(PROMPTS),
        list(range(len(PROMPTS))),
        steps=options.steps,
        guidance=folder.DEFAULT_GUIDANCE,
    )
    sheet = _laid_out([Image.fromarray(picture) for picture in pictures])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out, quality=92, subsampling=0)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


def _laid_out(pictures: list[Image.Image]) -> Image.Image:
    rows = -(-len(pictures) // COLUMNS)
    size = (GAP + COLUMNS * (CELL + GAP), GAP + rows * (CELL + TEXT_HEIGHT + GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for index, (picture, text) in enumerate(zip(pictures, PROMPTS, strict=True)):
        row, column = divmod(index, COLUMNS)
        x, y = GAP + column * (CELL + GAP), GAP + row * (CELL + TEXT_HEIGHT + GAP)
        sheet.paste(picture.resize((CELL, CELL), Image.Resampling.LANCZOS), (x, y))
        draw.text((x + CELL / 2, y + CELL + 4), text, INK, font, anchor="ma")
    return sheet


if __name__ == "__main__":
    main()
