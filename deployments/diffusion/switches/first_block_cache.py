"""`first_block_cache`: a transformer whose first block tells whether the others must run.

Where its residual has hardly changed since they ran, theirs is taken to be what it was: diffusers'
FirstBlockCache, which decides for a whole batch at once, here lane by lane.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from deployments.diffusion.families.family import Conditioning, Family
from deployments.diffusion.step_cache import Lane, LaneMemory

_Block = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""Text and picture, as diffusers' blocks give them."""


class _Left(NamedTuple):
    """Of one lane, when all blocks ran last: (tokens, width) each."""

    first: torch.Tensor
    """What the first block added ..."""
    others: torch.Tensor
    """... and what all others did."""


class FirstBlockCache:
    """Changes the transformer of `family`: blocks after the first run for lanes that need it."""

    def __init__(self, family: Family, threshold: float) -> None:
        """`threshold` is a share of what the first block added."""
        self._denoise, self._threshold = family.denoise, threshold
        self._memory: LaneMemory[_Left] = LaneMemory()
        self._lanes: Sequence[Lane] = ()
        self._running: list[int] = []
        """The lanes for which all blocks run in this step ..."""
        self._chosen: slice | torch.Tensor
        """... and what picks them out of all."""
        self._first_gave: torch.Tensor
        self._first_added: torch.Tensor
        blocks: list[Any] = list(family.denoiser.transformer_blocks)
        blocks += getattr(family.denoiser, "single_transformer_blocks", [])
        first, *others = blocks
        first.forward = self._deciding(first.forward)
        for block in others:
            block.forward = self._for_some(
                block.forward, begins=block is others[0], ends=block is others[-1]
            )

    def denoise(
        self,
        lanes: Sequence[Lane],
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
    ) -> torch.Tensor:
        """One forward, in which the lanes that need it go all the way."""
        self._lanes = lanes
        output = self._denoise(latents, timesteps, conditioning)
        self._memory.forget_finished(lanes)
        return output

    def _deciding(self, forward: _Block) -> _Block:
        def deciding(
            *, hidden_states: torch.Tensor, **named: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            text, picture = forward(hidden_states=hidden_states, **named)
            self._first_gave, self._first_added = picture, picture - hidden_states
            self._running = self._changed()
            self._chosen = slice(None)
            if len(self._running) < len(picture):
                self._chosen = torch.tensor(self._running, device=picture.device)
            return text, picture

        return deciding

    def _changed(self) -> list[int]:
        """The lanes whose first block adds something else than it did."""
        changes = []
        for lane, added in zip(self._lanes, self._first_added, strict=True):
            left = self._memory.get(lane)
            if left is None:
                changes.append(added.new_tensor(torch.inf))
            else:
                changes.append((added - left.first).abs().mean() / left.first.abs().mean())
        # Asked this way round, so that what is not a number runs.
        return [i for i, c in enumerate(torch.stack(changes).tolist()) if not c <= self._threshold]

    def _for_some(self, forward: _Block, *, begins: bool, ends: bool) -> _Block:
        def for_some(
            *,
            hidden_states: torch.Tensor,
            encoder_hidden_states: torch.Tensor,
            temb: torch.Tensor,
            **named: Any,
        ) -> tuple[torch.Tensor, torch.Tensor]:
            text, picture, chosen = encoder_hidden_states, hidden_states, self._chosen
            if self._running:
                text, picture = forward(
                    hidden_states=picture[chosen] if begins else picture,
                    encoder_hidden_states=text[chosen] if begins else text,
                    temb=temb[chosen],
                    **named,
                )
            return text, (self._for_all(picture) if ends else picture)

        return for_some

    def _for_all(self, picture: torch.Tensor) -> torch.Tensor:
        """The last block's picture for the lanes that ran -> for all lanes."""
        whole = self._first_gave.clone()
        for i, lane in enumerate(self._lanes):
            if i in self._running:
                whole[i] = picture[self._running.index(i)]
                added = whole[i] - self._first_gave[i]
                self._memory.keep(lane, _Left(self._first_added[i].clone(), added))
            else:
                left = self._memory.get(lane)
                assert left is not None  # or it would have run
                whole[i] += left.others
        return whole
