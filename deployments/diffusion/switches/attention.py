"""`attention` and `fused_qkv`: how the denoiser attends."""

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor,
    AttnProcessor2_0,
    JointAttnProcessor2_0,
)

from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.switches.processors import CrossProcessor, JointProcessor

KERNELS = ("xformers", "flash", "sage")
"""Other kernels for the same arithmetic, by diffusers' names."""

_WIDEST_HEAD = {"flash": 256, "sage": 128}
"""Numbers of a head, at most, that these kernels take."""


def set_attention(denoiser: Any, settings: DiffusionSettings) -> None:
    """Fuses, then sets the processors. Raises ValueError for what the denoiser cannot do."""
    if settings.attention in ("sliced", "plain") and not hasattr(denoiser, "set_attention_slice"):
        raise ValueError(
            f"model {settings.id}: attention is {settings.attention!r}, which is for UNets, and "
            f"this model has a {type(denoiser).__name__}; set attention: sdpa"
        )
    _check_heads(denoiser, settings)
    if settings.fused_qkv:
        fuse(denoiser)
    if settings.attention == "sliced":
        denoiser.set_attention_slice("auto")
    elif settings.attention == "plain":
        denoiser.set_attn_processor(AttnProcessor())
    elif settings.attention in KERNELS:
        set_kernel(denoiser, settings.attention)


def _check_heads(denoiser: Any, settings: DiffusionSettings) -> None:
    """Kernels would raise in the first step."""
    most = _WIDEST_HEAD.get(settings.attention)
    if most is None:
        return
    widest = max(attn.inner_dim // attn.heads for attn in _layers(denoiser))
    if widest > most:
        raise ValueError(
            f"model {settings.id}: attention is {settings.attention!r}, whose kernels take heads "
            f"of at most {most} numbers, and this model has some of {widest}; set attention: sdpa"
        )


def fuse(denoiser: Any) -> None:
    """One layer in the place of three (two, where text is attended to). The three are let go."""
    _set_processors(denoiser)
    for attn in _layers(denoiser):
        with torch.no_grad():
            attn.fuse_projections()
        replaced = ["to_q", "to_k", "to_v"] if hasattr(attn, "to_qkv") else ["to_k", "to_v"]
        if hasattr(attn, "to_added_qkv"):
            replaced += ["add_q_proj", "add_k_proj", "add_v_proj"]
        for name in replaced:
            setattr(attn, name, None)


def set_kernel(denoiser: Any, kernel: str) -> None:
    """`kernel` as diffusers calls it; `native` is torch's."""
    _set_processors(denoiser)
    denoiser.set_attention_backend(kernel)


def _set_processors(denoiser: Any) -> None:
    """Ours, where diffusers' have no choice of kernel."""
    for attn in _layers(denoiser):
        if isinstance(attn.processor, JointAttnProcessor2_0):
            attn.set_processor(JointProcessor())
        elif isinstance(attn.processor, AttnProcessor2_0):
            attn.set_processor(CrossProcessor())


def _layers(denoiser: Any) -> Iterator[Any]:
    """Attention layers of the transformer blocks."""
    for name, module in denoiser.named_modules():
        if "transformer_blocks" in name and isinstance(module, Attention | AttentionModuleMixin):
            yield module
