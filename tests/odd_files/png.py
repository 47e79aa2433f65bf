"""Sound PNG of every colour type, depth, filter, layout and kind of transparency."""

import numpy as np
from numpy.typing import NDArray

from tests.odd_files.make import Case
from tests.odd_files.png_writer import chunk, png

NAMES = {0: "grey", 2: "colour", 3: "palette", 4: "grey with alpha", 6: "colour with alpha"}
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
LAYOUTS = {"": False, " interlaced": True}
ALL_FILTERS = (0, 1, 2, 3, 4)
PALETTE = np.random.default_rng(3).integers(0, 256, (256, 3), np.uint8)


def noise(
    colour_type: int, depth: int, *, width: int = 13, height: int = 11, step: int = 1
) -> NDArray[np.int64]:
    """Any samples that the depth allows, in multiples of `step`."""
    shape = height, width, CHANNELS[colour_type]
    return np.random.default_rng(depth).integers(0, (2**depth - 1) // step + 1, shape) * step


def shown(samples: NDArray[np.int64], colour_type: int, depth: int) -> NDArray[np.uint8]:
    if colour_type == 3:
        return np.asarray(PALETTE[samples[..., 0]])
    scaled: NDArray[np.uint8] = np.rint(samples / (2**depth - 1) * 255).astype(np.uint8)
    if colour_type in (0, 4):
        return np.dstack([scaled[..., [0, 0, 0]], scaled[..., 1:]])
    return scaled


def plte(depth: int) -> bytes:
    return chunk(b"PLTE", PALETTE[: 2**depth].tobytes())


def kind(
    colour_type: int,
    depth: int,
    layout: str,
    *,
    size: tuple[int, int] = (13, 11),
    filters: tuple[int, ...] = ALL_FILTERS,
) -> Case:
    samples = noise(colour_type, depth, width=size[0], height=size[1])
    before = [plte(depth)] if colour_type == 3 else []
    interlaced = LAYOUTS[layout]
    return Case(
        f"png {NAMES[colour_type]} {depth}-bit{layout} {size[0]}x{size[1]} filters {filters}",
        png(samples, colour_type, depth, *before, interlaced=interlaced, filters=filters),
        shown(samples, colour_type, depth),
        # Of 16 bits the high byte is taken: a step below the nearest where the low one is large.
        tolerance=1 if depth == 16 else 0,
    )


KINDS = [
    kind(colour_type, depth, layout)
    for colour_type, depths in DEPTHS.items()
    for depth in depths
    for layout in LAYOUTS
]

FILTERS = [
    kind(colour_type, depth, layout, filters=(number,))
    for number in ALL_FILTERS
    for colour_type, depth in [(0, 1), (2, 8), (6, 16)]
    for layout in LAYOUTS
]

SIZES = [
    kind(colour_type, depth, " interlaced", size=size)
    for size in [(1, 1), (1, 9), (9, 1), (2, 3), (5, 2), (8, 8), (33, 17)]
    for colour_type, depth in [(0, 1), (3, 4), (2, 8), (6, 16)]
]


# Transparency


def keyed(colour_type: int, depth: int, layout: str) -> Case:
    """One colour is transparent."""
    # In 16 bits only colours that also differ in 8: Pillow compares them after scaling.
    samples = noise(colour_type, depth, step=257 if depth == 16 else 1)
    key = samples[4, 5]
    alpha = np.where((samples == key).all(axis=2), 0, 255).astype(np.uint8)
    trns = chunk(b"tRNS", key.astype(">u2").tobytes())
    return Case(
        f"png {NAMES[colour_type]} {depth}-bit{layout} with a transparent colour",
        png(samples, colour_type, depth, trns, interlaced=LAYOUTS[layout]),
        np.dstack([shown(samples, colour_type, depth), alpha]),
    )


TRANSPARENT = [
    keyed(colour_type, depth, layout)
    for colour_type in (0, 2)
    for depth in DEPTHS[colour_type]
    for layout in LAYOUTS
]


def palette_alpha(depth: int, name: str, alphas: list[int]) -> Case:
    samples = noise(3, depth)
    table = np.full(256, 255, np.uint8)
    table[: len(alphas)] = alphas
    return Case(
        f"png palette {depth}-bit, {name}",
        png(samples, 3, depth, plte(depth), chunk(b"tRNS", bytes(alphas))),
        np.dstack([shown(samples, 3, depth), table[samples[..., 0]]]),
    )


def short_palette(depth: int, entries: int) -> Case:
    """What the palette lacks is black, as the decoders of browsers have it."""
    samples = noise(3, depth)
    table = PALETTE.copy()
    table[entries:] = 0
    return Case(
        f"png palette {depth}-bit of {entries} entries",
        png(samples, 3, depth, chunk(b"PLTE", PALETTE[:entries].tobytes())),
        table[samples[..., 0]],
    )


PALETTES = [
    *[
        palette_alpha(depth, "an alpha for every entry", list(range(0, 251, 250 // (2**depth - 1))))
        for depth in (1, 2, 4)
    ],
    palette_alpha(8, "an alpha for every entry", list(range(255, -1, -1))),
    *[palette_alpha(depth, "one entry transparent", [255, 0]) for depth in DEPTHS[3]],
    *[palette_alpha(depth, "an alpha for the first entry", [128]) for depth in DEPTHS[3]],
    *[short_palette(depth, entries) for depth, entries in [(1, 1), (2, 3), (4, 5), (8, 200)]],
]
