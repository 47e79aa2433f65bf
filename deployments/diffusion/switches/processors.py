"""How the attention layers of UNets and of Stable Diffusion 3 attend, with a kernel of choice.

diffusers' own processors for these call torch's kernel by name, and its fused one for Stable
Diffusion 3 leaves out the norms that 3.5 has. FLUX's processor can do all of this itself.
"""

from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn


class CrossProcessor:
    """Of a UNet's transformer blocks: to the picture itself, or to the text."""

    _attention_backend: Any = None  # diffusers' names for what `set_attention_backend` sets
    _parallel_config: Any = None

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        **_: Any,
    ) -> torch.Tensor:
        """(n, tokens, width), and (n, tokens, width) of the text -> (n, tokens, width)"""
        query, key, value = _projected(attn, hidden_states, encoder_hidden_states)
        attended = _attended(self, attn, query, key, value)
        out: torch.Tensor = attn.to_out[0](attended)
        return out


class JointProcessor:
    """Of Stable Diffusion 3: picture and text attend to both; 3.5 has layers without the text."""

    _attention_backend: Any = None
    _parallel_config: Any = None

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        **_: Any,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """The same shapes as they came."""
        query, key, value = _projected(attn, hidden_states, None)
        query, key = _normed(attn, query, attn.norm_q), _normed(attn, key, attn.norm_k)
        if encoder_hidden_states is None:
            alone: torch.Tensor = attn.to_out[0](_attended(self, attn, query, key, value))
            return alone
        text_query, text_key, text_value = _projected_text(attn, encoder_hidden_states)
        text_query = _normed(attn, text_query, attn.norm_added_q)
        text_key = _normed(attn, text_key, attn.norm_added_k)
        attended = _attended(
            self,
            attn,
            torch.cat([query, text_query], dim=1),
            torch.cat([key, text_key], dim=1),
            torch.cat([value, text_value], dim=1),
        )
        picture, text = attended.split([query.shape[1], text_query.shape[1]], dim=1)
        # The last layer has no use for the text.
        return attn.to_out[0](picture), text if attn.context_pre_only else attn.to_add_out(text)


def _projected(
    attn: Any, hidden_states: torch.Tensor, text: torch.Tensor | None
) -> tuple[torch.Tensor, ...]:
    """Query, key and value, by fused layers or by one each."""
    if not attn.fused_projections:
        told = hidden_states if text is None else text
        return attn.to_q(hidden_states), attn.to_k(told), attn.to_v(told)
    if text is None:
        return tuple(attn.to_qkv(hidden_states).chunk(3, dim=-1))
    return attn.to_q(hidden_states), *attn.to_kv(text).chunk(2, dim=-1)


def _projected_text(attn: Any, text: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if attn.fused_projections:
        return tuple(attn.to_added_qkv(text).chunk(3, dim=-1))
    return attn.add_q_proj(text), attn.add_k_proj(text), attn.add_v_proj(text)


def _normed(attn: Any, projected: torch.Tensor, norm: Any) -> torch.Tensor:
    """Head by head."""
    if norm is None:
        return projected
    normed: torch.Tensor = norm(projected.unflatten(-1, (attn.heads, -1))).flatten(2)
    return normed


def _attended(
    processor: Any, attn: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    heads = (part.unflatten(-1, (attn.heads, -1)) for part in (query, key, value))
    attended: torch.Tensor = dispatch_attention_fn(
        *heads,
        backend=processor._attention_backend,
        parallel_config=processor._parallel_config,
    )
    return attended.flatten(2).to(query.dtype)
