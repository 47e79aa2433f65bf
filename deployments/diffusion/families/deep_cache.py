"""DeepCache (arXiv 2312.00858): what the deep part of a UNet gives changes little between calls.

At every `interval`-th call of a row its lanes go through the whole UNet, and what reaches the last
layer from below is kept; at the others they take only the first convolution and that last layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from deployments.diffusion.step_cache import LaneCache, kept_of


class DeepCache:
    """One UNet's. Lanes of one forward may be at different calls."""

    def __init__(self, unet: Any, interval: int) -> None:
        block = unet.up_blocks[-1]
        self._unet, self._interval, self._resnet = unet, interval, block.resnets[-1]
        # SDXL's last block has none.
        self._attention = block.attentions[-1] if hasattr(block, "attentions") else None
        self._from_below = torch.empty(0)
        self._resnet.register_forward_pre_hook(self._see)

    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        told: Mapping[str, Any],
        caches: Sequence[LaneCache],
        calls: Sequence[int],
    ) -> torch.Tensor:
        """The UNet's output for (n, C, h, w) latents; `told` are its other arguments, by lane."""
        whole = [
            lane
            for lane, (cache, call) in enumerate(zip(caches, calls, strict=True))
            if cache.kept is None or call % self._interval == 0
        ]
        rest = [lane for lane in range(len(caches)) if lane not in whole]
        parts = []
        if whole:
            parts.append(self._whole(latents[whole], timesteps[whole], lanes_of(told, whole)))
            for lane, deep in zip(whole, self._from_below, strict=True):
                caches[lane].staged = (deep.clone(),)  # a view would keep all lanes alive
            self._from_below = torch.empty(0)
        if rest:
            deep = kept_of([caches[lane] for lane in rest], 0)
            parts.append(self._last(latents[rest], timesteps[rest], lanes_of(told, rest), deep))
        order = torch.tensor([*whole, *rest], device=latents.device)
        return torch.cat(parts)[order.argsort()]

    def _whole(
        self, latents: torch.Tensor, timesteps: torch.Tensor, told: Mapping[str, Any]
    ) -> torch.Tensor:
        output: torch.Tensor = self._unet(latents, timesteps, **told, return_dict=False)[0]
        return output

    def _last(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        told: Mapping[str, Any],
        deep: torch.Tensor,
    ) -> torch.Tensor:
        """As diffusers' UNet2DConditionModel.forward, without what lies below the last layer."""
        unet, text, added = self._unet, told["encoder_hidden_states"], told["added_cond_kwargs"]
        time = unet.get_time_embed(sample=latents, timestep=timesteps)
        embedded = unet.time_embedding(time, told["timestep_cond"])
        more = unet.get_aug_embed(emb=embedded, encoder_hidden_states=text, added_cond_kwargs=added)
        embedded = embedded if more is None else embedded + more
        hidden = self._resnet(torch.cat([deep, unet.conv_in(latents)], dim=1), embedded)
        if self._attention is not None:
            hidden = self._attention(hidden, encoder_hidden_states=text, return_dict=False)[0]
        output: torch.Tensor = unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden)))
        return output

    def _see(self, _: Any, arguments: tuple[Any, ...]) -> None:
        """The last layer reads what comes from below, and behind it the first convolution."""
        [hidden, *_rest] = arguments
        self._from_below = hidden[:, : hidden.shape[1] - self._unet.conv_in.out_channels]


def lanes_of(told: Mapping[str, Any], lanes: Sequence[int]) -> dict[str, Any]:
    """The same for some of the lanes; what is None stays so."""
    return {
        name: None
        if value is None
        else value[lanes]
        if isinstance(value, torch.Tensor)
        else lanes_of(value, lanes)
        for name, value in told.items()
    }
