"""AUTOMATIC1111's syntax for weighing words: `(word)`, `(word:1.2)`, `[word]`, nested at will.

Knows text only. Every text has a reading: brackets that are never closed count as if they were,
at the end; closing ones that were never opened are ordinary characters.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

ROUND = 1.1
"""What `(word)` multiplies a weight by ..."""
SQUARE = 1 / 1.1
"""... and `[word]`."""

_HUGE = 1e6
"""Bounds the product of nested brackets, so that every weight is a number."""

# Upstream's tokens. Each is matched in linear time, since prompts come from strangers.
_TOKEN = re.compile(
    r"""
    \\(?P<escaped>[()\[\]\\]?)
    | (?P<bracket>[(\[)\]])
    | :\s*(?P<weight>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))\s*\)
    | (?P<text>[^\\()\[\]:]+|:)
    """,
    re.VERBOSE,
)
_BREAK = re.compile(r"\bBREAK\b")


class Piece(NamedTuple):
    """A stretch of text of one weight."""

    text: str
    weight: float = 1.0
    section: int = 0
    """Rises by one at each `BREAK`, which asks for a new chunk."""


def parse(prompt: str) -> list[Piece]:
    """The prompt's pieces in order, without the syntax; neighbours differ in weight or section."""
    same = groupby(_pieces(prompt), key=lambda piece: (piece.section, piece.weight))
    return [
        Piece("".join(piece.text for piece in pieces), weight, section)
        for (section, weight), pieces in same
    ]


def _pieces(prompt: str) -> Iterator[Piece]:
    tokens = list(_TOKEN.finditer(prompt))
    opening, closing = _brackets(tokens)
    rounds, squares, section = [1.0], [1.0], 0  # the products of what is open
    for place, token in enumerate(tokens):
        stack = squares if token[0] in "[]" else rounds
        if place in opening:
            stack.append(_bounded(stack[-1] * opening[place]))
        elif place in closing:
            stack.pop()
        else:
            weight = _bounded(rounds[-1] * squares[-1])
            for number, text in enumerate(_text(token)):
                section += number > 0
                if text:
                    yield Piece(text, weight, section)


def _brackets(tokens: list[re.Match[str]]) -> tuple[dict[int, float], set[int]]:
    """Where brackets open, and by what they multiply; where such are closed."""
    opening: dict[int, float] = {}
    closing: set[int] = set()
    rounds: list[int] = []
    squares: list[int] = []
    for place, token in enumerate(tokens):
        match token["bracket"]:
            case "(":
                opening[place] = ROUND
                rounds.append(place)
            case "[":
                opening[place] = SQUARE
                squares.append(place)
            case "]" if squares:
                squares.pop()
                closing.add(place)
            case ")" if rounds:
                rounds.pop()
                closing.add(place)
            case None if token["weight"] and rounds:
                opening[rounds.pop()] = _bounded(float(token["weight"]))
                closing.add(place)
    return opening, closing


def _text(token: re.Match[str]) -> list[str]:
    """What the token stands for when it is no bracket, cut at every BREAK."""
    if token["escaped"] is not None:
        return [token["escaped"]]
    return _BREAK.split(token[0])


def _bounded(weight: float) -> float:
    return max(-_HUGE, min(weight, _HUGE))
