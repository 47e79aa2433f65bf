"""Prompts: chunks of text, weights, and what is cut off with a warning."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batching.models import letter_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from deployments.diffusion.chunks import Chunk, Chunker, Tokens
from deployments.diffusion.families.family import Family
from deployments.diffusion.families.weighted import weighted
from deployments.diffusion.prompts import read_prompts
from deployments.ingress.resolve import resolve
from deployments.requests import GenerationParams, ImageResult, Row
from tests.driving import drive, driven, pixels, wait_until_waiting
from tests.ingress_backend import CARD
from tests.rows import make_row
from tests.tiny_model import open_model, save_tiny_model

LONG = "a red house on snowy hills at night and " * 3
"""93 letters, and the letter tokenizer makes a token of each: two chunks of 75."""


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose text encoder has CLIP's 77 positions."""
    return save_tiny_model(tmp_path_factory.mktemp("clip"), text_tokens=77)


@pytest.fixture(scope="module")
def clip_family(clip_folder: Path) -> Family:
    return open_model(clip_folder)


def read(family: Family, prompt: str, *, weighting: bool = False, chunks: int = 4) -> Tokens:
    return family.tokenize(prompt, weighting=weighting, max_chunks=chunks)


@torch.inference_mode()
def states(family: Family, prompt: str, **options: Any) -> torch.Tensor:
    """(1, tokens, width): what the denoiser is told."""
    lanes = [family.encode_prompts([chunk]) for chunk in read(family, prompt, **options).chunks]
    return family.join_chunks(lanes)["encoder_hidden_states"]


@torch.inference_mode()
def by_diffusers(family: Family, prompt: str) -> torch.Tensor:
    encoded: torch.Tensor = family.pipeline.encode_prompt(prompt, family.device, 1, False)[0]
    return encoded


def made(family: Family, *rows: Row, **settings: Any) -> list[ImageResult]:
    """Their pictures, made side by side."""
    with driven(family, **settings) as engine:
        futures = [engine.submit(row) for row in rows]
        wait_until_waiting(engine, len(rows))
        drive(engine, futures)
        return [future.result() for future in futures]


# Tokens to chunks

TOKENIZER = letter_tokenizer(16)
CHUNKER = Chunker(TOKENIZER)


def tokens_of(chunk: Chunk) -> list[int]:
    """Its ids without begin, end and padding."""
    return list(chunk.ids[1 : chunk.ids.index(TOKENIZER.eos_token_id)])


@given(st.text(st.sampled_from("abc "), max_size=80), st.integers(1, 4), st.booleans())
def test_chunks_hold_the_tokens_in_order(prompt: str, max_chunks: int, weighting: bool) -> None:
    tokens = CHUNKER.tokens(prompt, weighting=weighting, max_chunks=max_chunks)
    expected = TOKENIZER(prompt, add_special_tokens=False)["input_ids"]
    held = [token for chunk in tokens.chunks for token in tokens_of(chunk)]
    assert held == expected[: 14 * max_chunks]
    assert (tokens.length, tokens.dropped) == (len(expected), len(expected) - len(held))
    assert len(tokens.chunks) == min(max_chunks, max(1, -(-len(expected) // 14)))
    assert {len(chunk.ids) for chunk in tokens.chunks} == {16}
    assert {weight for chunk in tokens.chunks for weight in chunk.weights} == {1.0}


PADDED_WITH_LETTERS = letter_tokenizer(16)
PADDED_WITH_LETTERS.pad_token = "!"  # as Stable Diffusion 2.x has it


@pytest.mark.parametrize("tokenizer", [TOKENIZER, PADDED_WITH_LETTERS])
@given(prompt=st.text(st.sampled_from("abc "), max_size=40))
def test_one_chunk_is_what_the_tokenizer_makes(tokenizer: Any, prompt: str) -> None:
    (chunk,) = Chunker(tokenizer).tokens(prompt, weighting=False, max_chunks=1).chunks
    own = tokenizer(prompt, padding="max_length", max_length=16, truncation=True)["input_ids"]
    assert list(chunk.ids) == own


def test_weights_stand_at_their_tokens() -> None:
    tokens = CHUNKER.tokens("ab (cd:1.5) [e]", weighting=True, max_chunks=1)
    (chunk,) = tokens.chunks
    assert chunk.weights == (1, 1, 1, 1.5, 1.5, 1 / 1.1, *[1] * 10)
    plain = CHUNKER.tokens("ab cd e", weighting=True, max_chunks=1)
    assert chunk.ids == plain.chunks[0].ids


def test_without_weighting_brackets_are_text() -> None:
    (chunk,) = CHUNKER.tokens("(ab:2)", weighting=False, max_chunks=1).chunks
    assert len(tokens_of(chunk)) == 6
    assert set(chunk.weights) == {1.0}


@pytest.mark.parametrize(
    ("max_chunks", "lengths"), [(4, [2, 1, 14, 1]), (3, [2, 1, 14]), (2, [2, 14]), (1, [14])]
)
def test_break_begins_a_chunk_while_there_is_one_left(max_chunks: int, lengths: list[int]) -> None:
    prompt = "BREAK ab BREAK BREAK c BREAK " + "d" * 15 + " BREAK"
    tokens = CHUNKER.tokens(prompt, weighting=True, max_chunks=max_chunks)
    assert [len(tokens_of(chunk)) for chunk in tokens.chunks] == lengths
    assert tokens.dropped == 18 - sum(lengths)


# Chunks to states


@pytest.mark.parametrize("prompt", ["", "a red house", "x" * 75, "y" * 90])
def test_one_chunk_is_bit_for_bit_what_diffusers_encodes(
    clip_family: Family, embedded_family: Family, prompt: str
) -> None:
    for family in (clip_family, embedded_family):
        assert torch.equal(states(family, prompt, chunks=1), by_diffusers(family, prompt))


def test_two_chunks_are_read_apart_and_stand_one_after_the_other(
    clip_family: Family,
) -> None:
    letters = LONG.replace(" ", "")
    both = states(clip_family, letters)
    assert both.shape == (1, 2 * 77, 32)
    # The first chunk ends within the word, the second begins there.
    assert torch.equal(both[:, 77:], by_diffusers(clip_family, letters[75:]))
    first = read(clip_family, letters).chunks[0]
    assert torch.equal(both[:, :77], by_diffusers(clip_family, letters))
    assert first.ids[-1] == clip_family.pipeline.tokenizer.eos_token_id


def test_weight_1_changes_nothing_and_weight_2_the_word(embedded_family: Family) -> None:
    """On trained weights; what a random text encoder says has no mean to restore."""
    plain = states(embedded_family, "a red house")
    assert torch.equal(states(embedded_family, "a (red:1.0) house", weighting=True), plain)
    heavy = states(embedded_family, "a (red:2) house", weighting=True)
    assert heavy.mean().item() == pytest.approx(plain.mean().item(), rel=1e-4)
    ratios = (heavy / plain)[0].mean(dim=1)
    assert (ratios / ratios[0]).tolist() == pytest.approx([1, 1, 2, *[1] * 29], rel=1e-4)


def test_weights_multiply_and_the_mean_stays() -> None:
    states = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    weights = torch.tensor([[1, 1.5, 1, 1], [1, 1, 1, 1], [1, -0.5, 0, 1]])
    result = weighted(states, weights)
    for lane, told, weight in zip(result, states, weights, strict=True):
        expected = told * weight[:, None]
        assert torch.allclose(lane, expected * told.mean() / expected.mean(), rtol=1e-5)
    assert torch.equal(result[1], states[1])


def test_a_mean_of_nothing_is_not_restored() -> None:
    states = torch.tensor([[[1.0, -1.0], [2.0, -2.0]]])
    weights = torch.tensor([[1.0, 1.5]])
    assert torch.equal(weighted(states, weights), states * weights[..., None])


def test_a_weighted_prompt_beside_others_leaves_their_bits_alone(
    clip_family: Family,
) -> None:
    (plain,) = read(clip_family, "a red house").chunks
    (heavy,) = read(clip_family, "a (blue:1.5) house", weighting=True).chunks
    together = clip_family.encode_prompts([plain, heavy])["encoder_hidden_states"]
    unweighted = clip_family.encode_prompts([plain, heavy._replace(weights=plain.weights)])
    assert torch.equal(together[0], unweighted["encoder_hidden_states"][0])
    assert not torch.equal(together[1], unweighted["encoder_hidden_states"][1])


# A row's two prompts


def test_both_prompts_get_the_same_number_of_chunks(clip_family: Family) -> None:
    (empty,) = read(clip_family, "").chunks
    text = read_prompts(make_row(prompt=LONG, negative_prompt="fog"), clip_family, 4)
    assert (len(text.prompt), len(text.negative)) == (2, 2)
    assert text.negative[1] == empty
    text = read_prompts(make_row(negative_prompt=LONG * 2), clip_family, 4)
    assert (len(text.prompt), len(text.negative)) == (3, 3)
    assert text.prompt[1:] == (empty, empty)


def test_a_row_that_is_never_guided_reads_no_negative_prompt(
    clip_family: Family,
) -> None:
    text = read_prompts(make_row(negative_prompt=LONG * 9, guidance_scale=1.0), clip_family, 4)
    assert (len(text.prompt), text.negative, text.warnings) == (1, (), ())


def test_only_text_encoders_of_clip_length_get_chunks(
    clip_family: Family, tiny_family: Family, embedded_family: Family
) -> None:
    families = (clip_family, tiny_family, embedded_family)
    assert [family.max_chunks for family in families] == [4, 1, 1]


def test_what_is_cut_off_is_said(clip_family: Family) -> None:
    row = make_row(prompt="x" * 310, negative_prompt="y" * 301)
    assert read_prompts(row, clip_family, 4).warnings == (
        "prompt has 310 tokens and at most 300 are read here: the last 10 were dropped",
        "negative_prompt has 301 tokens and at most 300 are read here: the last 1 were dropped",
    )
    fits = make_row(prompt="x" * 300, negative_prompt="y" * 300)
    assert read_prompts(fits, clip_family, 4).warnings == ()


def test_a_weight_beyond_the_limit_is_lowered_with_a_warning(clip_family: Family) -> None:
    row = make_row(prompt="a (red:99) house", prompt_weighting=True)
    text = read_prompts(row, clip_family, 4)
    assert max(text.prompt[0].weights) == 10
    assert text.warnings == ("prompt has a weight of 99: weights are kept between -10 and 10",)
    assert read_prompts(replace(row, prompt_weighting=False), clip_family, 4).warnings == ()


# In the engine


def test_rows_of_one_and_of_two_chunks_run_side_by_side(clip_family: Family) -> None:
    rows = [
        make_row(seed=1),
        make_row(seed=2, prompt=LONG),
        make_row(seed=3, negative_prompt=LONG),
        make_row(seed=4, prompt="a (red:1.5) house", prompt_weighting=True),
    ]
    for row, beside in zip(rows, made(clip_family, *rows), strict=True):
        (alone,) = made(clip_family, row)
        assert np.abs(pixels(beside) - pixels(alone)).max() <= 1
        assert beside.warnings == ()


def test_what_comes_after_the_first_chunk_counts(clip_family: Family) -> None:
    rows = [make_row(prompt=LONG), make_row(prompt=LONG + "x"), make_row(prompt="x" * 320)]
    long, longer, cut = made(clip_family, *rows)
    assert (pixels(long) != pixels(longer)).any()
    assert (long.warnings, longer.warnings, len(cut.warnings)) == ((), (), 1)


def test_a_compiled_step_is_offered_one_chunk(clip_family: Family) -> None:
    """Nothing is compiled here: the engine decides by its settings alone."""
    (result,) = made(clip_family, make_row(prompt=LONG), compile="default")
    assert result.warnings == (
        "prompt has 93 tokens and at most 75 are read here: the last 18 were dropped",
    )
    (first,) = made(clip_family, make_row(prompt=LONG.replace(" ", "")[:75]), compile="default")
    assert first.warnings == ()


def test_the_embedded_model_cuts_off_with_a_warning(embedded_family: Family) -> None:
    side = embedded_family.native_side
    prompt = "a red house on snowy hills at night " * 8
    row = make_row(prompt=prompt, num_inference_steps=1, width=side, height=side)
    (result,) = made(embedded_family, row)
    assert len(result.warnings) == 1
    assert "at most 30 are read here" in result.warnings[0]


def test_a_chunk_is_encoded_once(clip_family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Chunk] = []
    encode = clip_family.encode_prompts

    def record(chunks: Any) -> Any:
        encoded.extend(chunks)
        return encode(chunks)

    monkeypatch.setattr(clip_family, "encode_prompts", record)
    made(
        clip_family,
        make_row(seed=1, prompt=LONG),
        make_row(seed=2, prompt=LONG, negative_prompt="(fog:1.5)"),
        make_row(seed=3, prompt=LONG, negative_prompt="(fog:1.5)", prompt_weighting=True),
    )
    # Two of the long prompt, the empty one, and the brackets as text and as a weight.
    assert len(encoded) == len(set(encoded)) == 5


def test_the_option_reaches_the_rows() -> None:
    for weighting in (False, True):
        params = GenerationParams(prompt="a red house", n=2, prompt_weighting=weighting)
        rows = resolve(params, CARD, request_id="req", max_megapixels=32.0).rows
        assert [row.prompt_weighting for row in rows] == [weighting] * 2
