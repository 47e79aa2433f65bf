"""CLIP text encoders as SDXL and SD3 use them: the last state but one, and the pooled text."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from deployments.diffusion.families.weighted import weighted

Ids = tuple[int, ...]


class Penultimate(NamedTuple):
    """What an encoder makes of n chunks."""

    states: torch.Tensor
    """(n, tokens, width) of the last hidden state but one, unnormalised."""
    pooled: torch.Tensor
    """(n, projection)"""

    @classmethod
    def of(cls, encoder: Any, ids: Sequence[Ids], weights: torch.Tensor) -> "Penultimate":
        """`encoder` is a CLIPTextModelWithProjection, or of SDXL a CLIPTextModel."""
        read = encoder(torch.tensor(ids, device=weights.device), output_hidden_states=True)
        return cls(weighted(read.hidden_states[-2], weights), read[0])


def padded_as(tokenizer: Any, like: Any) -> Callable[[Ids], Ids]:
    """Ids of the tokenizer `like` -> those of `tokenizer`, which may pad with another token."""
    if tokenizer.get_vocab() != like.get_vocab():
        raise ValueError(
            "the model's two CLIP tokenizers have different vocabularies: such a model is not "
            "served here; take one as it was published"
        )
    ends, padding = like.eos_token_id, tokenizer.pad_token_id

    def padded(ids: Ids) -> Ids:
        length = ids.index(ends) + 1
        return ids[:length] + (padding,) * (len(ids) - length)

    return padded
