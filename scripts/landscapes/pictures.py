"""Pictures for training and for checks, drawn by all processor cores and kept as one array file."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .painting import paint
from .world import SIZE, Scene, held_out_scenes, training_scenes

HELD_OUT_SEED = 1_000_003
"""Added to the seed for pictures of held-out scenes, so that no sky or hill is shared either."""


@dataclass(frozen=True)
class PictureSet:
    """Pictures (count, SIZE, SIZE, 3) in uint8, the scene of each, and where its subject is."""

    pixels: NDArray[np.uint8]
    scenes: list[Scene]
    owners: NDArray[np.uint8] | None = None

    def first(self, count: int) -> PictureSet:
        """The first `count` of them; the order is shuffled, so every scene still occurs."""
        return PictureSet(self.pixels[:count], self.scenes[:count])


def training_set(folder: Path, count: int, seed: int) -> PictureSet:
    """The training pictures, drawn once and read from `folder` afterwards."""
    path = folder / f"pictures-{count}-{seed}.npy"
    scenes = _scenes(training_scenes(), count, seed)
    if not path.exists():
        _draw_into(path, scenes, seed)
    return PictureSet(np.load(path, mmap_mode="r"), scenes)


def held_out_set(count: int, seed: int) -> PictureSet:
    """Pictures of scenes that training never draws."""
    scenes = _scenes(held_out_scenes(), count, seed)
    painted = [
        paint(scene, np.random.default_rng([seed + HELD_OUT_SEED, index]))
        for index, scene in enumerate(scenes)
    ]
    pixels = np.stack([picture.round().astype(np.uint8) for picture, _ in painted])
    return PictureSet(pixels, scenes, np.stack([owner for _, owner in painted]))


def _scenes(choices: list[Scene], count: int, seed: int) -> list[Scene]:
    """`count` scenes in which every choice appears equally often, shuffled."""
    order = np.random.default_rng(seed).permutation(count)
    return [choices[index % len(choices)] for index in order]


def _draw_into(path: Path, scenes: list[Scene], seed: int) -> None:
    unfinished = path.with_suffix(".part.npy")
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(scenes), SIZE, SIZE, 3)
    pixels = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
    work = [(scene, seed, index) for index, scene in enumerate(scenes)]
    # By fork: a fresh process would import torch again, for numpy and Pillow alone.
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        for index, picture in enumerate(pool.imap(_painted, work, chunksize=16)):
            pixels[index] = picture
            if (index + 1) % 1000 == 0:
                print(f"drawn {index + 1}/{len(scenes)} pictures", flush=True)
    pixels.flush()
    unfinished.rename(path)


def _painted(work: tuple[Scene, int, int]) -> NDArray[np.uint8]:
    scene, seed, index = work
    picture, _ = paint(scene, np.random.default_rng([seed, index]))
    return picture.round().astype(np.uint8)
