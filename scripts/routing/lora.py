"""LoRA files for the embedded model, made by PEFT and diffusers. Nobody trained them."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict

from deployments.diffusion.model_files import EMBEDDED

RANK = 16
LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]


def save_adapters(folder: Path, count: int) -> list[Path]:
    """So many files, `lora-0.safetensors` and on."""
    unet = UNet2DConditionModel.from_pretrained(EMBEDDED / "unet")
    return [_save(folder, unet, number) for number in range(count)]


def _save(folder: Path, unet: torch.nn.Module, number: int) -> Path:
    torch.manual_seed(number)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LAYERS, init_lora_weights=False)
    changed = inject_adapter_in_model(config, copy.deepcopy(unet))
    name = f"lora-{number}.safetensors"
    StableDiffusionPipeline.save_lora_weights(
        folder, unet_lora_layers=get_peft_model_state_dict(changed), weight_name=name
    )
    return folder / name
