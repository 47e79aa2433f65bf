"""The numbers of the public models, and of toys that are built alike.

A part is a class of diffusers or transformers with its arguments, or those of its config; what is
not named is the class's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from batching.models import TEXT, UNET, VAE, letter_ids
from diffusers import (
    AutoencoderKL,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedModel,
    T5EncoderModel,
)


class Part(NamedTuple):
    """A network."""

    kind: Any
    numbers: Mapping[str, Any]

    def make(self) -> Any:
        """With random weights, on torch's default device and in its default type."""
        if issubclass(self.kind, PreTrainedModel):
            return self.kind(self.kind.config_class(**self.numbers))
        return self.kind(**self.numbers)

    def changed(self, **numbers: Any) -> Part:
        """The same with other numbers."""
        return Part(self.kind, {**self.numbers, **numbers})


Parts = Mapping[str, Part]
"""By their names in the pipeline."""

# Public models

_CLIP_L: dict[str, Any] = {**TEXT, **letter_ids(), "projection_dim": 768}
_CLIP_G: dict[str, Any] = {
    **_CLIP_L,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
_T5_XXL: dict[str, Any] = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
_XL_UNET: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
    "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
    "up_block_types": (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
}
_SD3_MEDIUM: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}
_XL_VAE: dict[str, Any] = {"sample_size": 1024, "scaling_factor": 0.13025}
_FLOW_VAE: dict[str, Any] = {
    "sample_size": 1024,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
_SD3_VAE: dict[str, Any] = {**_FLOW_VAE, "scaling_factor": 1.5305, "shift_factor": 0.0609}
_FLUX_VAE: dict[str, Any] = {**_FLOW_VAE, "scaling_factor": 0.3611, "shift_factor": 0.1159}

SD15: Parts = {
    "unet": Part(UNet2DConditionModel, UNET),
    "vae": Part(AutoencoderKL, VAE),
    "text_encoder": Part(CLIPTextModel, _CLIP_L),
}
SDXL: Parts = {
    "unet": Part(UNet2DConditionModel, _XL_UNET),
    "vae": Part(AutoencoderKL, {**VAE, **_XL_VAE}),
    "text_encoder": Part(CLIPTextModel, _CLIP_L),
    "text_encoder_2": Part(CLIPTextModelWithProjection, _CLIP_G),
}
SD3: Parts = {
    "transformer": Part(SD3Transformer2DModel, _SD3_MEDIUM),
    "vae": Part(AutoencoderKL, {**VAE, **_SD3_VAE}),
    "text_encoder": Part(CLIPTextModelWithProjection, _CLIP_L),
    "text_encoder_2": Part(CLIPTextModelWithProjection, _CLIP_G),
    "text_encoder_3": Part(T5EncoderModel, _T5_XXL),
}
FLUX: Parts = {
    "transformer": Part(FluxTransformer2DModel, {"guidance_embeds": True}),
    "vae": Part(AutoencoderKL, {**VAE, **_FLUX_VAE}),
    "text_encoder": Part(CLIPTextModel, _CLIP_L),
    "text_encoder_2": Part(T5EncoderModel, _T5_XXL),
}

# Toys

_TOY_UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
_TOY_VAE: dict[str, Any] = {
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 64,
}
_TOY_T5: dict[str, Any] = {"d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 2}


def _toy_clip(width: int) -> dict[str, Any]:
    return {
        "vocab_size": 200,
        "hidden_size": width,
        "projection_dim": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 16,
    }


TOY_SD15: Parts = {
    "unet": SD15["unet"].changed(**_TOY_UNET, cross_attention_dim=32),
    "vae": SD15["vae"].changed(**_TOY_VAE),
    "text_encoder": SD15["text_encoder"].changed(**_toy_clip(32)),
}
TOY_SDXL: Parts = {
    "unet": SDXL["unet"].changed(
        **_TOY_UNET,
        cross_attention_dim=16 + 24,
        transformer_layers_per_block=2,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8,
    ),
    "vae": SDXL["vae"].changed(**_TOY_VAE),
    "text_encoder": SDXL["text_encoder"].changed(**_toy_clip(16)),
    "text_encoder_2": SDXL["text_encoder_2"].changed(**_toy_clip(24)),
}
TOY_SD3: Parts = {
    "transformer": SD3["transformer"].changed(
        sample_size=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=48,
        caption_projection_dim=32,
        pooled_projection_dim=16 + 24,
        pos_embed_max_size=16,
    ),
    "vae": SD3["vae"].changed(**_TOY_VAE),
    "text_encoder": SD3["text_encoder"].changed(**_toy_clip(16)),
    "text_encoder_2": SD3["text_encoder_2"].changed(**_toy_clip(24)),
    "text_encoder_3": SD3["text_encoder_3"].changed(**_TOY_T5, d_model=48),
}
TOY_FLUX: Parts = {
    "transformer": FLUX["transformer"].changed(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8),
    ),
    "vae": FLUX["vae"].changed(**_TOY_VAE),
    "text_encoder": FLUX["text_encoder"].changed(**_toy_clip(16)),
    "text_encoder_2": FLUX["text_encoder_2"].changed(**_TOY_T5, d_model=32),
}


def with_t5_layers(parts: Parts, layers: int) -> Parts:
    """The same with a T5 of so many layers; its states stay as wide, so that no other part cares.

    T5-XXL has 24 and takes 9.5 GB in half precision.
    """
    return {
        name: part.changed(num_layers=layers) if part.kind is T5EncoderModel else part
        for name, part in parts.items()
    }
