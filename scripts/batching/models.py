"""Which model is measured, as a diffusers folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from deployments.diffusion.model_files import EMBEDDED

RANDOM_SD15 = "sd15-random"

UNET: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
}
VAE: dict[str, Any] = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
}
"""Stable Diffusion 1.5's own numbers."""


def folder(model: str, build: Path) -> Path:
    """The folder of `embedded`, of `sd15-random` (made in `build` once, 2 GB), or a folder itself.

    Random weights cost what trained ones cost; their pictures show nothing.
    """
    if model == "embedded":
        return EMBEDDED
    if model != RANDOM_SD15:
        return Path(model)
    made = build / RANDOM_SD15
    if not made.exists():
        unfinished = made.with_suffix(".part")
        save_random(unfinished, unet=UNET, vae=VAE, text=TEXT)
        unfinished.rename(made)
    return made


def save_random(
    out: Path, *, unet: dict[str, Any], vae: dict[str, Any], text: dict[str, Any]
) -> None:
    """Saves a Stable Diffusion of these sizes, with random weights in half precision."""
    torch.manual_seed(0)
    tokenizer = letter_tokenizer(text["max_position_embeddings"])
    pipeline: Any = StableDiffusionPipeline(
        tokenizer=tokenizer,
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                **text,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        ),
        unet=UNet2DConditionModel(in_channels=4, out_channels=4, **unet),
        vae=AutoencoderKL(**vae),
        scheduler=DPMSolverMultistepScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.scheduler.register_to_config(clip_sample=False)  # what DDIM would take from it
    pipeline.to(torch.float16).save_pretrained(out)


def letter_tokenizer(tokens: int) -> CLIPTokenizer:
    """A tokenizer of so many tokens a prompt, one for each letter."""
    letters = [chr(code) for code in range(33, 127)]
    known = [*letters, *(f"{letter}</w>" for letter in letters)]
    known += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(known)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=tokens)
