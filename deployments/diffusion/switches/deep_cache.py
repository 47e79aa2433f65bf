"""`deep_cache`: a UNet whose inner blocks run at every so many calls of a row, as in DeepCache.

In between only the outermost level runs, on what the inner ones left last (arXiv 2312.00858).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from deployments.diffusion.families.family import Conditioning, Family
from deployments.diffusion.step_cache import Lane, LaneMemory


class DeepCache:
    """Changes the UNet of `family`: its inner blocks can be passed by."""

    def __init__(self, family: Family, every: int) -> None:
        self._denoise, self._every = family.denoise, every
        self._memory: LaneMemory[torch.Tensor] = LaneMemory()
        self._passes_by = False
        self._deep: torch.Tensor
        """(lanes, C, h, w): what enters the last block, taken from the UNet or given to it."""
        unet = family.denoiser
        for block in unet.down_blocks[1:]:
            samples = len(block.resnets) + len(block.downsamplers or ())
            block.forward = self._passable(block.forward, samples)
        for block in (unet.mid_block, *unet.up_blocks[:-1]):
            if block is not None:
                block.forward = self._passable(block.forward)
        unet.up_blocks[-1].register_forward_pre_hook(self._enter_last, with_kwargs=True)

    def denoise(
        self,
        lanes: Sequence[Lane],
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
    ) -> torch.Tensor:
        """Lanes whose turn it is, whole; then the others."""
        due = [i for i, lane in enumerate(lanes) if self._is_due(lane)]
        others = [i for i in range(len(lanes)) if i not in due]
        output = torch.empty_like(latents)
        for numbers, run in ((due, self._whole), (others, self._outer)):
            if numbers:
                # Lists would be copied to the device for every tensor.
                chosen = torch.tensor(numbers, device=latents.device)
                told = {name: tensor[chosen] for name, tensor in conditioning.items()}
                these = [lanes[i] for i in numbers]
                output[chosen] = run(these, latents[chosen], timesteps[chosen], told)
        self._memory.forget_finished(lanes)
        return output

    def _is_due(self, lane: Lane) -> bool:
        return lane.run.call % self._every == 0 or self._memory.get(lane) is None

    def _whole(self, lanes: Sequence[Lane], *inputs: Any) -> torch.Tensor:
        output = self._denoise(*inputs)
        for i, lane in enumerate(lanes):
            # Cloned, since a view would keep the whole batch alive.
            self._memory.keep(lane, self._deep[i : i + 1].clone())
        return output

    def _outer(self, lanes: Sequence[Lane], *inputs: Any) -> torch.Tensor:
        left = [self._memory.get(lane) for lane in lanes]
        self._deep = torch.cat([deep for deep in left if deep is not None])
        self._passes_by = True
        try:
            return self._denoise(*inputs)
        finally:
            self._passes_by = False

    def _passable(self, forward: Callable[..., Any], samples: int = 0) -> Callable[..., Any]:
        """A block's forward; passed by, it gives what came, also as the samples of a down block."""

        def passable(hidden_states: torch.Tensor, *more: Any, **named: Any) -> Any:
            if not self._passes_by:
                return forward(hidden_states, *more, **named)
            return (hidden_states, (hidden_states,) * samples) if samples else hidden_states

        return passable

    def _enter_last(self, _: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if self._passes_by:
            return inputs, {**named, "hidden_states": self._deep}
        self._deep = named["hidden_states"]
        return None
