"""Layers that adapters act in.

A layer stays the object that it is, with its weights and its name, and gets another class: what
reads or quantizes it sees what it saw before. All adapters that act at once are one to it, their
ranks side by side and their scales in the numbers: sum(s_i * up_i @ down_i) is one product.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from deployments.diffusion.adapters.weights import Delta


class AdaptedLinear(nn.Linear):
    """A linear layer, and what adapters add to it."""

    adapter_down: torch.Tensor | None
    adapter_up: torch.Tensor | None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)"""
        output = super().forward(input)
        if self.adapter_down is None or self.adapter_up is None:
            return output
        return output + functional.linear(
            functional.linear(input, self.adapter_down), self.adapter_up
        )


class AdaptedConv2d(nn.Conv2d):
    """A convolution, and what adapters add to it."""

    adapter_down: torch.Tensor | None
    adapter_up: torch.Tensor | None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(n, in, h, w) -> (n, out, h', w')"""
        output = super().forward(input)
        if self.adapter_down is None or self.adapter_up is None:
            return output
        low = functional.conv2d(
            input, self.adapter_down, None, self.stride, self.padding, self.dilation
        )
        return output + functional.conv2d(low, self.adapter_up)


_ADAPTED: Mapping[type, type] = MappingProxyType(
    {nn.Linear: AdaptedLinear, nn.Conv2d: AdaptedConv2d}
)


def why_unfit(layer: Any, delta: Delta) -> str | None:
    """Why `delta` cannot act in a layer of the model; None if it can."""
    if type(layer) not in (*_ADAPTED, *_ADAPTED.values()) or getattr(layer, "groups", 1) != 1:
        return f"is a {type(layer).__name__}, to which nothing can be added"
    weight, rank = tuple(layer.weight.shape), delta.rank
    down, up = tuple(delta.down.shape), tuple(delta.up.shape)
    if (down, up) != ((rank, *weight[1:]), (weight[0], rank, *[1] * (len(weight) - 2))):
        return f"has weights of {weight}, and the adapter's are of {down} and {up}"
    return None


def adapt(layer: Any, *, room: int = 0) -> None:
    """Makes a layer one that adapters can act in. Until one does, it does what it did.

    With `room` it has tensors for that much rank, which never change their place or shape: a
    compiled step knows them.
    """
    if type(layer) not in _ADAPTED:
        return  # it is one already
    layer.__class__ = _ADAPTED[type(layer)]
    down = up = None
    if room:
        out, *inside = layer.weight.shape
        down = layer.weight.new_zeros(room, *inside)
        up = layer.weight.new_zeros(out, room, *[1] * (len(inside) - 1))
    layer.register_buffer("adapter_down", down, persistent=False)
    layer.register_buffer("adapter_up", up, persistent=False)


def put_on(layer: Any, deltas: Sequence[Delta], *, in_place: bool) -> None:
    """These act in an adapted layer from now on, and nothing else does.

    `in_place` fills the tensors that `adapt` made room for.
    """
    if in_place:
        layer.adapter_down.zero_()
        layer.adapter_up.zero_()
        if deltas:
            down, up = _joined(deltas, layer.weight)
            layer.adapter_down[: len(down)].copy_(down)
            layer.adapter_up[:, : len(down)].copy_(up)
        return
    layer.adapter_down, layer.adapter_up = _joined(deltas, layer.weight) if deltas else (None, None)


def _joined(deltas: Sequence[Delta], like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One pair for all, on the device and in the dtype of `like`; scaled in float32."""
    downs = [delta.down.to(like.device, like.dtype) for delta in deltas]
    ups = [(delta.up.to(like.device).float() * delta.factor).to(like.dtype) for delta in deltas]
    return (downs[0], ups[0]) if len(deltas) == 1 else (torch.cat(downs), torch.cat(ups, dim=1))
