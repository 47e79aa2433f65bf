"""A CLIP tokenizer of its own: one token for every word of the world, bytes for all the rest."""

from __future__ import annotations

import itertools
from collections import Counter

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from .captions import words

MAX_LENGTH = 32
END = "</w>"
START_TOKEN, END_TOKEN = "<|startoftext|>", "<|endoftext|>"


def build() -> CLIPTokenizer:
    """The tokenizer; built from the word list alone, so it is the same every time."""
    letters = sorted(bytes_to_unicode().values())
    merges = _merges(words())
    tokens = [*letters, *(letter + END for letter in letters)]
    tokens += ["".join(pair) for pair in merges]
    tokens += [START_TOKEN, END_TOKEN]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=merges,
        unk_token=END_TOKEN,
        bos_token=START_TOKEN,
        eos_token=END_TOKEN,
        pad_token=END_TOKEN,
        model_max_length=MAX_LENGTH,
    )


def _merges(known: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first, until every known word is one token."""
    split = [[*word[:-1], word[-1] + END] for word in known]
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter(pair for parts in split for pair in itertools.pairwise(parts))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = [_merged(parts, best) for parts in split]


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for part in parts:
        if result and (result[-1], part) == pair:
            result[-1] += part
        else:
            result.append(part)
    return result
