"""AUTOMATIC1111's syntax for weights: a pure parser of text."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.diffusion.weighting import Piece, parse
from deployments.ingress.resolve import MAX_PROMPT_CHARS

PLAIN = st.text(st.characters(exclude_characters="()[]\\")).filter(lambda text: "BREAK" not in text)
SYNTAX = st.lists(st.sampled_from([*"()[]:\\.+-019 ab", ":1.2)", "BREAK", "\n"])).map("".join)


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [  # the first ten are the doctests of AUTOMATIC1111's own parser
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        ("\\(literal\\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        ),
        ("", []),
        ("()", []),
        ("a)b]c:1.2)", [("a)b]c:1.2)", 1.0)]),
        ("[word]", [("word", 1 / 1.1)]),
        ("[a (b] c)", [("a ", 1 / 1.1), ("b", 1.0), (" c", 1.1)]),
        ("(a: -0.5 )", [("a", -0.5)]),
        ("(a:.5)", [("a", 0.5)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("[a:1.2]", [("a:1.2", 1 / 1.1)]),
        ("lonely \\ one, twice \\\\", [("lonely  one, twice \\", 1.0)]),
    ],
)
def test_examples(prompt: str, pieces: list[tuple[str, float]]) -> None:
    found = parse(prompt)
    assert [piece.text for piece in found] == [text for text, _ in pieces]
    assert [piece.weight for piece in found] == pytest.approx([weight for _, weight in pieces])


def test_break_begins_a_section_and_keeps_the_weight() -> None:
    assert parse("a BREAK (b BREAK c) BREAKFAST") == [
        Piece("a ", 1.0, 0),
        Piece(" ", 1.0, 1),
        Piece("b ", 1.1, 1),
        Piece(" c", 1.1, 2),
        Piece(" BREAKFAST", 1.0, 2),
    ]


@given(PLAIN.filter(bool))
def test_text_without_syntax_is_one_piece_of_weight_1(text: str) -> None:
    assert parse(text) == [Piece(text)]


@given(SYNTAX | st.text())
def test_every_text_has_a_reading(prompt: str) -> None:
    pieces = parse(prompt)
    assert all(piece.text and math.isfinite(piece.weight) for piece in pieces)
    assert all(one[1:] != other[1:] for one, other in pairwise(pieces)), "neighbours are merged"
    assert sum(len(piece.text) for piece in pieces) <= len(prompt)


@given(st.lists(st.floats(-3, 3).map(lambda weight: round(weight, 3)), max_size=8))
def test_nested_weights_multiply(weights: list[float]) -> None:
    prompt = "(" * len(weights) + "word" + "".join(f":{weight:.3f})" for weight in weights)
    (piece,) = parse(prompt)
    assert piece.text == "word"
    assert piece.weight == pytest.approx(math.prod(weights))


@given(st.integers(0, 6), st.integers(0, 6))
def test_round_brackets_and_square_ones_undo_each_other(rounds: int, squares: int) -> None:
    (piece,) = parse("(" * rounds + "[" * squares + "word" + ")" * rounds + "]" * squares)
    assert piece.weight == pytest.approx(1.1 ** (rounds - squares))


@pytest.mark.parametrize(
    "unit", ["(", "[", "(a", "(a:1.2)", ":1", ":", "\\", "(" + " " * 9, "BREAK"]
)
def test_the_longest_prompt_of_nothing_but_syntax_is_read(unit: str) -> None:
    """In time that grows with its length: with its square, this file would take minutes."""
    prompt = unit * (MAX_PROMPT_CHARS // len(unit))
    assert all(math.isfinite(piece.weight) for piece in parse(prompt))


@pytest.mark.parametrize("prompt", ["((a:9" + "9" * 400 + "):0)", "((a:0):9" + "9" * 400 + ")"])
def test_no_weight_is_infinite(prompt: str) -> None:
    assert parse(prompt) == [Piece("a", 0.0)]
