"""A prompt as a T5 encoder reads it, beside CLIP: all of it in one chunk, without weights."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from deployments.diffusion.chunks import PROMPTS_KEPT, Chunker, Tokens, TwinChunker
from deployments.diffusion.weighting import parse


class TextReader:
    """Tokenizes for a CLIP encoder and, where the model has one, a T5. Not thread-safe."""

    def __init__(
        self, clip: Chunker | TwinChunker, t5_tokenizer: Any | None, t5_tokens: int
    ) -> None:
        """`t5_tokens` is the length that the model's text is padded to."""
        self._clip, self._t5, self._t5_tokens = clip, t5_tokenizer, t5_tokens
        self.tokens = lru_cache(PROMPTS_KEPT)(self._tokens)

    def _tokens(self, prompt: str, *, weighting: bool) -> Tokens:
        """One chunk. With `weighting`, brackets are taken out and their weights are not given."""
        text, unweighted = prompt, False
        if weighting:
            pieces = parse(prompt)
            text = "".join(piece.text for piece in pieces)
            unweighted = any(piece.weight != 1 for piece in pieces)
        tokens = replace(
            self._clip.tokens(text, weighting=False, max_chunks=1), unweighted=unweighted
        )
        if self._t5 is None:
            return tokens
        ids = self._t5(text, verbose=False)["input_ids"]
        read = self._t5(text, padding="max_length", max_length=self._t5_tokens, truncation=True)
        chunk = tokens.chunks[0]._replace(t5_ids=tuple(read["input_ids"]))
        # CLIP gives these models the gist alone: what only it does not read is not lost.
        dropped = max(0, len(ids) - self._t5_tokens)
        return replace(tokens, chunks=(chunk,), length=len(ids), dropped=dropped)


def t5_states(encoder: Any, ids: Sequence[tuple[int, ...]], device: torch.device) -> torch.Tensor:
    """(n, tokens, width); padding is read too, as the models were trained."""
    states: torch.Tensor = encoder(torch.tensor(ids, device=device))[0]
    return states
