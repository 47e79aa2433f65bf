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
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Tokenizer

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
NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
"""Noise levels of every Stable Diffusion with a UNet."""


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
    pipeline = stable_diffusion(
        text_encoder=CLIPTextModel(CLIPTextConfig(**text, **letter_ids())),
        unet=UNet2DConditionModel(in_channels=4, out_channels=4, **unet),
        vae=AutoencoderKL(**vae),
    )
    pipeline.to(torch.float16).save_pretrained(out)


def stable_diffusion(*, text_encoder: Any, unet: Any, vae: Any) -> Any:
    """The pipeline of these parts, with the letters as its tokenizer."""
    pipeline: Any = StableDiffusionPipeline(
        tokenizer=letter_tokenizer(text_encoder.config.max_position_embeddings),
        text_encoder=text_encoder,
        unet=unet,
        vae=vae,
        scheduler=DPMSolverMultistepScheduler(**NOISE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.scheduler.register_to_config(clip_sample=False)  # what DDIM would take from it
    return pipeline


def letter_tokenizer(tokens: int, *, padding: str = "<|endoftext|>") -> CLIPTokenizer:
    """A tokenizer of so many tokens a prompt, one for each letter.

    The second ones of SDXL and SD3 have "!" as their `padding`.
    """
    letters = [chr(code) for code in range(33, 127)]
    known = [*letters, *(f"{letter}</w>" for letter in letters)]
    known += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(known)}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[], model_max_length=tokens)
    tokenizer.pad_token = padding
    return tokenizer


def letter_ids() -> dict[str, int]:
    """What a text encoder's config says of the letter tokenizer."""
    tokenizer = letter_tokenizer(77)
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def letter_t5_tokenizer(tokens: int) -> T5Tokenizer:
    """The same for a T5 encoder."""
    letters = [(chr(code), -2.0) for code in range(33, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *letters]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=tokens)
