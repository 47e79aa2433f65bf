"""First Block Cache, as ParaAttention and diffusers have it, lane by lane.

Every lane goes through the transformer's first block. Where what that block adds has changed by
less than a threshold since the lane last went through all of them, the other blocks are taken to
add what they added then. diffusers' own hooks decide for a whole batch at once, which a mixed one
cannot use.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from deployments.diffusion.step_cache import LaneCache, kept_of


class FirstBlockCache(torch.nn.Module):
    """Stands in the place of a transformer's blocks and is called as one of them."""

    def __init__(self, transformer: Any, threshold: float) -> None:
        super().__init__()
        first, *others = transformer.transformer_blocks
        others += getattr(transformer, "single_transformer_blocks", [])
        self.first, self.others = first, torch.nn.ModuleList(others)
        self._threshold = threshold
        self._caches: Sequence[LaneCache] = ()
        transformer.transformer_blocks = torch.nn.ModuleList([self])
        if hasattr(transformer, "single_transformer_blocks"):  # FLUX
            transformer.single_transformer_blocks = torch.nn.ModuleList()

    @contextmanager
    def of(self, caches: Sequence[LaneCache]) -> Iterator[None]:
        """For the transformer's forward inside: one cache for each of its lanes."""
        self._caches = caches
        try:
            yield
        finally:
            self._caches = ()

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        **shared: Any,
    ) -> tuple[None, torch.Tensor]:
        """(n, tokens, width) of the picture, of the text, and (n, width) of the time.

        What becomes of the text, no transformer asks after its last block.
        """
        caches = self._caches or [LaneCache() for _ in hidden_states]  # none while it warms up
        text, hidden = self.first(hidden_states, encoder_hidden_states, temb, **shared)
        added = hidden - hidden_states
        due = self._due(added, caches)
        if due:
            after, text = hidden[due], text[due]
            for block in self.others:
                text, after = block(after, text, temb[due], **shared)
            for place, lane in enumerate(due):
                tail = after[place] - hidden[lane]
                caches[lane].staged = (added[lane].clone(), tail)
        tails = [cache.staged or cache.kept for cache in caches]
        return None, hidden + torch.stack([kept[1] for kept in tails if kept is not None])

    def _due(self, added: torch.Tensor, caches: Sequence[LaneCache]) -> list[int]:
        """The lanes that must go through all blocks."""
        known = [lane for lane, cache in enumerate(caches) if cache.kept is not None]
        due = [lane for lane, cache in enumerate(caches) if cache.kept is None]
        if known:
            before = kept_of([caches[lane] for lane in known], 0)
            change = (added[known] - before).abs().mean((1, 2)) / before.abs().mean((1, 2))
            changed = (change > self._threshold).tolist()
            due += [lane for lane, is_due in zip(known, changed, strict=True) if is_due]
        return due
