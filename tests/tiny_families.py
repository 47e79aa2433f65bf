"""A tiny pipeline of every family, of the real classes, made in a second each."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from batching.models import NOISE, letter_t5_tokenizer, letter_tokenizer
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

from deployments.diffusion.families.family import Family

TEXT_TOKENS = 16


def save_stable_diffusion(folder: Path, **unet: Any) -> None:
    _stable_diffusion(StableDiffusionPipeline, _unet(**unet)).save_pretrained(folder)


def save_inpainting(folder: Path) -> None:
    _stable_diffusion(StableDiffusionInpaintPipeline, _unet(in_channels=9)).save_pretrained(folder)


def save_lcm(folder: Path) -> None:
    """A UNet that was distilled to be told the guidance scale, saved as they are published."""
    unet = _unet(time_cond_proj_dim=32)
    pipeline = _stable_diffusion(LatentConsistencyModelPipeline, unet, LCMScheduler(**NOISE))
    pipeline.save_pretrained(folder)


def save_xl(folder: Path) -> None:
    _xl(StableDiffusionXLPipeline, _xl_unet()).save_pretrained(folder)


def save_xl_turbo(folder: Path) -> None:
    """Distilled for a few steps without guidance; its noise levels start at the very last."""
    pipeline = _xl(StableDiffusionXLPipeline, _xl_unet())
    pipeline.scheduler = EulerAncestralDiscreteScheduler(**NOISE, timestep_spacing="trailing")
    pipeline.save_pretrained(folder)


def save_xl_inpainting(folder: Path) -> None:
    _xl(StableDiffusionXLInpaintPipeline, _xl_unet(in_channels=9)).save_pretrained(folder)


def save_sd3(folder: Path, *, with_t5: bool = True, **scheduler: Any) -> None:
    tokenizer, second = letter_tokenizer(TEXT_TOKENS), letter_tokenizer(TEXT_TOKENS, padding="!")
    torch.manual_seed(0)
    pipeline: Any = StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=48,
            caption_projection_dim=32,
            pooled_projection_dim=40,
            pos_embed_max_size=32,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **scheduler}),
        vae=_vae(latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=CLIPTextModelWithProjection(_clip(tokenizer, 16)),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(_clip(second, 24)),
        tokenizer_2=second,
        text_encoder_3=_t5(48) if with_t5 else None,
        tokenizer_3=letter_t5_tokenizer(512) if with_t5 else None,
    )
    pipeline.save_pretrained(folder)


def save_flux(folder: Path) -> None:
    """As dev: told the guidance scale, noise levels spaced by the size."""
    _save_flux(folder, guidance_embeds=True, use_dynamic_shifting=True, shift=3.0)


def save_flux_schnell(folder: Path) -> None:
    _save_flux(folder, guidance_embeds=False, use_dynamic_shifting=False, shift=1.0)


MAKERS: Mapping[str, Callable[[Path], None]] = MappingProxyType(
    {
        "stable-diffusion": save_stable_diffusion,
        "inpainting": save_inpainting,
        "lcm": save_lcm,
        "xl": save_xl,
        "xl turbo": save_xl_turbo,
        "xl inpainting": save_xl_inpainting,
        "sd3": save_sd3,
        "sd3 without t5": lambda folder: save_sd3(folder, with_t5=False),
        "sd3 dynamic": lambda folder: save_sd3(folder, use_dynamic_shifting=True),
        "flux": save_flux,
        "flux schnell": save_flux_schnell,
    }
)
"""By name, what saves a diffusers folder."""


def denoised(family: Family, lanes: int = 2) -> torch.Tensor:
    """What the denoiser makes of lanes of noise at different times."""
    tokens = family.tokenize("a red house", weighting=False, max_chunks=1)
    with torch.inference_mode():
        told = {**family.encode_prompts(tokens.chunks), **family.told((64, 64), 3.0)}
        random = torch.Generator().manual_seed(3)
        latents = torch.randn(lanes, family.latent_channels, 8, 8, generator=random)
        times = torch.linspace(100, 900, lanes)
        return family.denoise(
            latents, times, {key: t.repeat_interleave(lanes, 0) for key, t in told.items()}
        )


def _stable_diffusion(kind: Any, unet: Any, scheduler: Any = None) -> Any:
    tokenizer = letter_tokenizer(TEXT_TOKENS)
    torch.manual_seed(0)
    return kind(
        tokenizer=tokenizer,
        text_encoder=CLIPTextModel(_clip(tokenizer, 32)),
        unet=unet,
        vae=_vae(),
        scheduler=scheduler or DDIMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _xl(kind: Any, unet: Any) -> Any:
    tokenizer, second = letter_tokenizer(TEXT_TOKENS), letter_tokenizer(TEXT_TOKENS, padding="!")
    torch.manual_seed(1)
    pipeline = kind(
        tokenizer=tokenizer,
        tokenizer_2=second,
        text_encoder=CLIPTextModel(_clip(tokenizer, 16)),
        text_encoder_2=CLIPTextModelWithProjection(_clip(second, 24)),
        unet=unet,
        vae=_vae(scaling_factor=0.13025, force_upcast=True),
        scheduler=EulerDiscreteScheduler(**NOISE),
        add_watermarker=False,
    )
    pipeline.scheduler.register_to_config(clip_sample=False)
    return pipeline


def _save_flux(folder: Path, *, guidance_embeds: bool, **scheduler: Any) -> None:
    tokenizer = letter_tokenizer(TEXT_TOKENS)
    torch.manual_seed(0)
    pipeline: Any = FluxPipeline(
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance_embeds,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(**scheduler),
        vae=_vae(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=CLIPTextModel(_clip(tokenizer, 16)),
        tokenizer=tokenizer,
        text_encoder_2=_t5(32),
        tokenizer_2=letter_t5_tokenizer(512),
    )
    pipeline.save_pretrained(folder)


def _unet(**changes: Any) -> Any:
    torch.manual_seed(2)
    return UNet2DConditionModel(
        **{
            "sample_size": 8,
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": (16, 32),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": 32,
            "attention_head_dim": 4,
            "norm_num_groups": 8,
            **changes,
        }
    )


def _xl_unet(**changes: Any) -> Any:
    return _unet(
        cross_attention_dim=40,
        use_linear_projection=True,
        transformer_layers_per_block=2,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8,
        **changes,
    )


def _vae(**changes: Any) -> Any:
    return AutoencoderKL(
        **{
            "block_out_channels": (8, 8, 8, 8),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "latent_channels": 4,
            "norm_num_groups": 4,
            "sample_size": 64,
            "force_upcast": False,
            **changes,
        }
    )


def _clip(tokenizer: CLIPTokenizer, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=width,
        projection_dim=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
    )


def _t5(width: int) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=len(letter_t5_tokenizer(512)),
            d_model=width,
            d_kv=8,
            d_ff=2 * width,
            num_layers=2,
            num_heads=2,
            feed_forward_proj="gated-gelu",
        )
    )
