"""The finished model as an ordinary diffusers folder in half precision."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from numpy.typing import NDArray
from transformers import CLIPTokenizer

from .denoiser import Denoiser, build_scheduler

LARGEST_BYTES = 32_000_000
DEFAULT_STEPS = 20
DEFAULT_GUIDANCE = 3.0


def save(
    out: Path, *, tokenizer: CLIPTokenizer, denoiser: Denoiser, autoencoder: AutoencoderTiny
) -> int:
    """Write the folder beside `out`, move its files into place, and return its size in bytes."""
    denoiser, autoencoder = copy.deepcopy(denoiser), copy.deepcopy(autoencoder)
    denoiser.unet.set_attn_processor(AttnProcessor2_0())
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        unet=denoiser.unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to("cpu", torch.float16)
    unfinished = out.with_name(out.name + ".part")
    pipeline.save_pretrained(unfinished, safe_serialization=True)
    _add_to_scheduler_config(unfinished / "scheduler" / "scheduler_config.json")
    shutil.copytree(unfinished, out, dirs_exist_ok=True)
    shutil.rmtree(unfinished)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    if size > LARGEST_BYTES:
        raise ValueError(f"the folder has {size} bytes, more than the {LARGEST_BYTES} allowed")
    return size


def _add_to_scheduler_config(path: Path) -> None:
    """Say `clip_sample: false`: DDIM and DDPM would else clip latents as if they were pixels."""
    config = json.loads(path.read_text())
    config["clip_sample"] = False
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load(path: Path) -> StableDiffusionPipeline:
    """The model in single precision, quiet, with its own scheduler."""
    pipeline = StableDiffusionPipeline.from_pretrained(path, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(
    pipeline: StableDiffusionPipeline,
    prompts: list[str],
    seeds: list[int],
    *,
    steps: int,
    guidance: float,
) -> NDArray[np.uint8]:
    """One picture for each prompt and seed, in one batch."""
    output = pipeline(
        prompts,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="np",
        num_inference_steps=steps,
        guidance_scale=guidance,
    )
    pictures: NDArray[np.uint8] = (output.images * 255).round().astype(np.uint8)
    return pictures
