"""A Stable Diffusion of the real classes, a few thousand weights large, made in a second."""

from pathlib import Path
from typing import Any

import torch
from batching.models import letter_tokenizer
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from deployments.diffusion.families.family import Family
from deployments.diffusion.loading import load_family
from deployments.diffusion.settings import DiffusionSettings


def open_model(folder: Path, **settings: Any) -> Family:
    """A model as the engine would load it, on the CPU in float32."""
    return load_family(DiffusionSettings(id="tiny", source=str(folder), device="cpu", **settings))


def save_tiny_model(
    folder: Path,
    *,
    prediction_type: str = "epsilon",
    random_encoder: bool = True,
    text_tokens: int = 16,
) -> Path:
    """Saves a diffusers folder: 64-pixel pictures, latents 8 times smaller."""
    torch.manual_seed(0)
    tokenizer = letter_tokenizer(text_tokens)
    pipeline: Any = StableDiffusionPipeline(
        tokenizer=tokenizer,
        text_encoder=CLIPTextModel(_text_config(tokenizer)),
        unet=_unet(),
        vae=_vae(random_encoder),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type=prediction_type,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def _text_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
    )


def _unet() -> Any:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def _vae(random_encoder: bool) -> Any:
    if random_encoder:
        return AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=64,
        )
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8)
    )
