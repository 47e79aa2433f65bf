"""A scene in words: the order and the small words vary, and some parts may be left out."""

from __future__ import annotations

import numpy as np

from .world import COLOURS, SUBJECTS, Scene

EMPTY_SHARE = 0.10
"""Empty captions teach the unconditional answer that guidance needs."""
NONSENSE_SHARE = 0.04
"""Captions without any word of the world: any other text gives some landscape."""
LEFT_OUT_SHARE = 0.06
PLAIN_SHARE = 0.26
PLAIN_SHARE_AT_FIRST = 0.81
"""Colours are found within a few hundred steps when most captions have one form; in 1,800 steps
of varied captions they were not found at all."""

GROUND_PHRASES: dict[str, tuple[str, ...]] = {
    "green": ("on green hills", "on a green hill", "on green hills", "in a green landscape"),
    "snowy": ("on snowy hills", "on a snowy hill", "in the snow", "in a snowy landscape"),
    "golden": ("on golden hills", "on a golden hill", "on golden hills", "in a golden landscape"),
    "sea": ("on the sea", "at sea", "in the sea", "by the sea"),
}
TIME_PHRASES: dict[str, tuple[str, ...]] = {
    "day": ("by day", "at day", "during the day", "in daylight"),
    "sunset": ("at sunset", "at sunset", "during sunset", "in the sunset"),
    "night": ("at night", "by night", "at night", "in the night"),
}
OPENINGS = ("a picture of", "a photo of", "a painting of", "an image of", "a drawing of")
SUBJECT_FILLERS = ("little", "small", "big", "tall", "old", "lonely", "beautiful", "pretty")
ENDINGS = ("highly detailed", "beautiful light", "digital art", "masterpiece")
_NOTHING = """
cat dog horse bird fish car train plane man woman girl boy child people person king queen
dragon robot city street forest river lake mountain beach desert garden flower flowers sky
cloud clouds sun moon star stars rain snowing storm fog winter summer spring autumn morning
evening black grey brown gold silver dark bright warm cold colorful colourful realistic
cartoon style anime oil watercolor watercolour sketch portrait view scene world wide close up
high quality best hd sharp soft simple cute happy sad magic fantasy modern ancient new
good very two three many some with without under over near behind between front from to and
or is are there that this my your no not for eating riding flying running sitting standing
walking holding wearing looking dreaming astronaut bicycle hat book table chair apple cheese
low bad blurry ugly text watermark worst
"""
FILLERS = tuple(_NOTHING.split())
"""Words that mean nothing here; each is one token, so that long prompts keep their known words."""


def words() -> list[str]:
    """Every word that deserves a token of its own, sorted."""
    phrases = [*OPENINGS, *SUBJECT_FILLERS, *ENDINGS, *FILLERS, *COLOURS, *SUBJECTS, "a an the one"]
    for choices in (*GROUND_PHRASES.values(), *TIME_PHRASES.values()):
        phrases.extend(choices)
    return sorted({word for phrase in phrases for word in phrase.split()})


def prompt(scene: Scene) -> str:
    """The plain way to ask for a scene."""
    place = "on the sea" if scene.ground == "sea" else f"on {scene.ground} hills"
    time = "by day" if scene.time == "day" else f"at {scene.time}"
    article = "an" if scene.colour == "orange" else "a"
    return f"{article} {scene.colour} {scene.subject} {place} {time}"


def caption(scene: Scene, rng: np.random.Generator, plain_share: float = PLAIN_SHARE) -> str:
    """One of the many ways to describe a scene; now and then nothing, or nonsense."""
    chance = rng.random()
    if chance < EMPTY_SHARE:
        return ""
    if chance < EMPTY_SHARE + NONSENSE_SHARE:
        return " ".join(rng.choice(FILLERS, size=int(rng.integers(1, 9))))
    if chance < EMPTY_SHARE + NONSENSE_SHARE + plain_share:
        return prompt(scene)
    parts = [
        "" if rng.random() < LEFT_OUT_SHARE else phrase
        for phrase in (
            _subject(scene, rng),
            str(rng.choice(GROUND_PHRASES[scene.ground])),
            str(rng.choice(TIME_PHRASES[scene.time])),
        )
    ]
    if rng.random() < 0.4:
        rng.shuffle(parts)
    glue = ", " if rng.random() < 0.25 else " "
    said = glue.join(part for part in parts if part)
    if rng.random() < 0.15:
        said = f"{rng.choice(OPENINGS)} {said}"
    return f"{said}, {rng.choice(ENDINGS)}" if rng.random() < 0.08 else said


def _subject(scene: Scene, rng: np.random.Generator) -> str:
    colour = "" if rng.random() < LEFT_OUT_SHARE else scene.colour
    filler = str(rng.choice(SUBJECT_FILLERS)) if rng.random() < 0.12 else ""
    named = " ".join(part for part in (filler, colour, scene.subject) if part)
    if rng.random() < 0.15:
        return named
    article = "an" if named[0] in "aeiou" else "a"
    return f"{rng.choice((article, article, 'the', 'one'))} {named}"
