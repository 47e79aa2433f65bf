"""A prompt's tokens in chunks, each as long as the text encoder can read at once.

It knows the tokenizer and no model. A prompt of one chunk has the very ids that the tokenizer
itself would give it, begin, end and padding included.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from deployments.diffusion.weighting import Piece, parse

MAX_PIECES = 512
"""Stretches of one weight, more than any chunks hold tokens; what follows them is read unweighted.
The tokenizer takes 20 us for each, and a prompt may have thousands."""

PROMPTS_KEPT = 64

CLIP_TOKENS = 77
"""Positions of the text encoders of Stable Diffusion 1.x, 2.x and XL, whose models bear to be told
more than one chunk. Others were trained with all their text in one."""
MAX_CHUNKS = 4
"""300 tokens, some 230 words."""

MAX_WEIGHT = 10.0
"""Weights are kept within plus and minus this; far beyond it a model's numbers overflow."""


class Chunk(NamedTuple):
    """One reading of the text encoder; hashable."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    """One per id, 1 for begin, end and padding. All of them 0: nothing is read, not even that."""
    second: "Chunk | None" = None
    """The same text as a second CLIP tokenizer has it, where the model has one."""
    t5_ids: tuple[int, ...] = ()
    """The same text as a T5 encoder reads it, where the model has one."""

    def silent(self) -> "Chunk":
        """The same with all weights 0."""
        second = None if self.second is None else self.second.silent()
        return self._replace(weights=(0.0,) * len(self.weights), second=second)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt as the text encoder will read it."""

    chunks: tuple[Chunk, ...]
    """At least one: an empty prompt is begin, end and padding."""
    length: int
    """Tokens of the whole prompt ..."""
    dropped: int
    """... and how many of them, the last ones, were too many."""
    heaviest: float = 1.0
    """The largest weight that was asked for, without its sign; chunks hold up to MAX_WEIGHT."""
    unweighted: bool = False
    """Whether weights were asked for that the model cannot give."""


class _Token(NamedTuple):
    id: int
    weight: float
    section: int


class Chunker:
    """Cuts prompts for one tokenizer. Not thread-safe, since tokenizers are not."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is a CLIP tokenizer of transformers."""
        self._tokenizer = tokenizer
        # The n rows of a request have one prompt, and so has a row that is offered again.
        self.tokens = lru_cache(PROMPTS_KEPT)(self._tokens)
        self.length: int = tokenizer.model_max_length
        """Tokens of a chunk, begin and end included."""

    def _tokens(self, prompt: str, *, weighting: bool, max_chunks: int) -> Tokens:
        """The prompt in at most `max_chunks` chunks; what is left over is dropped.

        With `weighting` the brackets in it are read as `weighting` says, and `BREAK` starts a
        new chunk while there is one left.
        """
        pieces = parse(prompt) if weighting else [Piece(prompt)]
        if len(pieces) > MAX_PIECES:
            rest = "".join(piece.text for piece in pieces[MAX_PIECES:])
            pieces = [*pieces[:MAX_PIECES], Piece(rest, section=pieces[MAX_PIECES - 1].section)]
        tokens = self._tokenized(pieces)
        chunks, dropped = _cut(tokens, self.length - 2, max_chunks)
        return Tokens(
            chunks=tuple(self._framed(chunk) for chunk in chunks),
            length=len(tokens),
            dropped=dropped,
            heaviest=max((abs(piece.weight) for piece in pieces), default=1.0),
        )

    def filled(self, chunks: tuple[Chunk, ...], length: int) -> tuple[Chunk, ...]:
        """So many chunks, the missing ones empty."""
        empty = self.tokens("", weighting=False, max_chunks=1).chunks
        return chunks + empty * (length - len(chunks))

    def _tokenized(self, pieces: Sequence[Piece]) -> list[_Token]:
        if not pieces:
            return []
        texts = [piece.text for piece in pieces]
        # Not verbose, or it would warn of every long prompt.
        ids = self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return [
            _Token(token, max(-MAX_WEIGHT, min(piece.weight, MAX_WEIGHT)), piece.section)
            for piece, tokens in zip(pieces, ids, strict=True)
            for token in tokens
        ]

    def _framed(self, tokens: Sequence[_Token]) -> Chunk:
        begin, end = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        padding = self.length - 2 - len(tokens)
        return Chunk(
            ids=(begin, *(t.id for t in tokens), end, *[self._tokenizer.pad_token_id] * padding),
            weights=(1.0, *(t.weight for t in tokens), 1.0, *[1.0] * padding),
        )


class TwinChunker:
    """Two tokenizers of one vocabulary, which pad, and so read an exclamation mark, differently."""

    def __init__(self, first: Any, second: Any) -> None:
        self._first, self._second = Chunker(first), Chunker(second)
        self.length = self._first.length

    def tokens(self, prompt: str, *, weighting: bool, max_chunks: int) -> Tokens:
        """The first's, each chunk with the second's beside it; what is shorter is filled up."""
        first, second = (
            chunker.tokens(prompt, weighting=weighting, max_chunks=max_chunks)
            for chunker in (self._first, self._second)
        )
        length = max(len(first.chunks), len(second.chunks))
        pairs = zip(
            self._first.filled(first.chunks, length),
            self._second.filled(second.chunks, length),
            strict=True,
        )
        return replace(first, chunks=tuple(own._replace(second=other) for own, other in pairs))


def _cut(tokens: Iterable[_Token], room: int, max_chunks: int) -> tuple[list[list[_Token]], int]:
    """Chunks of at most `room` tokens, and how many tokens found no place in `max_chunks`."""
    chunks: list[list[_Token]] = [[]]
    dropped = 0
    for token in tokens:
        last = chunks[-1]
        full = len(last) == room
        breaks = bool(last) and last[-1].section < token.section
        if (full or breaks) and len(chunks) < max_chunks:
            chunks.append([token])
        elif full:
            dropped += 1
        else:
            last.append(token)
    return chunks, dropped
