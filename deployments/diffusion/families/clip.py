"""CLIP text encoders as SDXL and SD3 use them: the last state but one, and the pooled text."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from deployments.diffusion.chunks import Chunk
from deployments.diffusion.families.weighted import weighted


class Penultimate(NamedTuple):
    """What an encoder makes of n chunks."""

    states: torch.Tensor
    """(n, tokens, width) of the last hidden state but one, unnormalised."""
    pooled: torch.Tensor
    """(n, projection)"""

    @classmethod
    def of(cls, encoder: Any, chunks: Sequence[Chunk], device: torch.device) -> "Penultimate":
        """`encoder` is a CLIPTextModelWithProjection, or of SDXL a CLIPTextModel."""
        ids = torch.tensor([chunk.ids for chunk in chunks], device=device)
        weights = torch.tensor([chunk.weights for chunk in chunks], device=device)
        read = encoder(ids, output_hidden_states=True)
        return cls(weighted(read.hidden_states[-2], weights), read[0])


def seconds(chunks: Sequence[Chunk]) -> list[Chunk]:
    """As the second tokenizer has them."""
    return [chunk.second for chunk in chunks if chunk.second is not None]
