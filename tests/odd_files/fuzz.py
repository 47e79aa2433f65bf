"""Files damaged at random, each the same whenever its number is drawn."""

import random
import struct
from dataclasses import replace

from deployments.errors import InvalidImage
from deployments.imaging.prepare import prepare
from deployments.imaging.settings import ImagingSettings
from deployments.requests import PrepareSpec
from tests.odd_files import CASES
from tests.odd_files.png_writer import SIGNATURE, chunk

SEED = 20260

SETTINGS = ImagingSettings(max_megapixels=1.0)

SIZE = PrepareSpec(width=16, height=16, latent_factor=8, mask_polarity="white")
SPECS = [
    SIZE,
    replace(SIZE, resize_mode="crop"),
    replace(SIZE, resize_mode="pad"),
    replace(SIZE, mask_blur=2.0),
]

SMALL = [case.data for case in CASES if not isinstance(case.expected, str) and not case.padding]
SMALL = [data for data in SMALL if len(data) <= 4096]

SOUND = [
    [data for data in SMALL if data.startswith(start)]
    for start in (SIGNATURE, b"\xff\xd8", b"RIFF")
]
"""The corpus' small files that decode: PNG, JPEG, WebP."""


def prepare_mutated(count: int) -> None:
    """Prepares so many; prints each one's number before, and what came of it after.

    Whoever reads the output of a process that died or hangs finds the file at its end.
    """
    for number in range(count):
        print(number, end=" ", flush=True)
        data = mutated_file(number)
        try:
            prepare(data, data if number % 5 == 0 else None, SPECS[number % len(SPECS)], SETTINGS)
        except InvalidImage as refused:
            print("refused", refused.code, flush=True)
        else:
            print("prepared", flush=True)


def mutated_file(number: int) -> bytes:
    draw = random.Random(f"{SEED} {number}")
    data = mutated(draw, draw.choice(SOUND[number % len(SOUND)]))
    # Half of the PNGs get right checksums again, so that damage gets past them.
    return resealed(data) if draw.random() < 0.5 and data.startswith(SIGNATURE) else data


def mutated(draw: random.Random, data: bytes) -> bytes:
    content = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8])):
        place = draw.randrange(len(content))
        match draw.randrange(4):
            case 0:
                content[place] = draw.randrange(256)
            case 1:
                content[place] ^= 1 << draw.randrange(8)
            case 2:
                del content[place : place + draw.randrange(1, 9)]
            case _:
                content[place:place] = draw.randbytes(draw.randrange(1, 9))
    return bytes(content)


def resealed(data: bytes) -> bytes:
    out, place = data[:8], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        out += chunk(data[place + 4 : place + 8], data[place + 8 : place + 8 + length])
        place += 12 + length
    return out
