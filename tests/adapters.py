"""LoRA files for the tiny models, made by PEFT's own classes and written as their trainers do."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from deployments.diffusion.adapters.shelf import AdapterShelf, FailedFile
from deployments.diffusion.adapters.weights import NO_ADAPTERS, AdapterSet
from deployments.diffusion.families.family import Family
from deployments.errors import AdapterFailed
from deployments.requests import AdapterUse

Tensors = dict[str, torch.Tensor]

UNET_LAYERS = ("to_q", "to_v", "to_out.0", "proj_in", "ff.net.2", "conv1")
TRANSFORMER_LAYERS = ("to_q", "to_k", "to_out.0", "ff.net.2", "proj_mlp")
TEXT_LAYERS = ("q_proj", "v_proj", "out_proj", "fc1")


def layers_of(family: Family) -> Sequence[str]:
    """What the tests' adapters change of its denoiser."""
    return UNET_LAYERS if "unet" in family.slots.denoiser_parts else TRANSFORMER_LAYERS


def taken(shelf: AdapterShelf, uses: Sequence[AdapterUse]) -> AdapterSet:
    """These from the shelf, on this thread: what is not there is read. Raises AdapterFailed."""
    found = NO_ADAPTERS
    for use in uses:
        loaded = shelf.find(use.name) or shelf.read(use.name)
        shelf.keep(loaded)
        if isinstance(loaded, FailedFile):
            raise AdapterFailed(loaded.message)
        found = found.plus(use, loaded)
    return found


def weights(
    module: Any, layers: Sequence[str], *, seed: int, rank: int = 4, **config: Any
) -> tuple[Tensors, LoraConfig]:
    """A LoRA of a module by PEFT's names, and its config."""
    torch.manual_seed(seed)
    chosen = {"lora_alpha": rank, **config}
    lora = LoraConfig(r=rank, target_modules=list(layers), init_lora_weights=False, **chosen)
    changed = inject_adapter_in_model(lora, copy.deepcopy(module))
    # On its own, so that a file holds no memory of the others'.
    return {k: v.detach().clone() for k, v in get_peft_model_state_dict(changed).items()}, lora


def save(
    path: Path,
    family: Family,
    *,
    seed: int,
    rank: int = 4,
    denoiser: bool = True,
    text: bool = False,
    metadata: bool = False,
    **config: Any,
) -> Path:
    """A file as diffusers' own trainers save it; `metadata` has the config with it."""
    arguments: dict[str, Any] = {}
    for part, module in family.slots.parts.items():
        is_denoiser = part in family.slots.denoiser_parts
        if part == "text_encoder_3" or (family.name == "flux" and part == "text_encoder_2"):
            continue  # T5, of which diffusers takes none
        if not (denoiser if is_denoiser else text):
            continue
        layers = layers_of(family) if is_denoiser else TEXT_LAYERS
        state, lora = weights(module, layers, seed=seed, rank=rank, **config)
        arguments[f"{part}_lora_layers"] = state
        if metadata:
            arguments[f"{part}_lora_adapter_metadata"] = lora.to_dict()
    folder = path.parent / f"{path.stem}-folder"
    family.pipeline_class.save_lora_weights(folder, **arguments)
    (folder / "pytorch_lora_weights.safetensors").rename(path)
    return path


def kohya(state: Mapping[str, torch.Tensor], prefix: str, alphas: Sequence[float]) -> Tensors:
    """PEFT's names as Kohya's trainers write them; alphas are given out by turns."""
    renamed: Tensors = {}
    for number, key in enumerate(key for key in state if key.endswith(".lora_A.weight")):
        layer = key.removesuffix(".lora_A.weight")
        name = prefix + layer.replace(".", "_")
        renamed[f"{name}.lora_down.weight"] = state[key]
        renamed[f"{name}.lora_up.weight"] = state[f"{layer}.lora_B.weight"]
        renamed[f"{name}.alpha"] = torch.tensor(alphas[number % len(alphas)])
    return renamed


def save_kohya(
    path: Path,
    family: Family,
    *,
    seed: int,
    rank: int = 4,
    alphas: Sequence[float] = (2.0,),
    text: bool = True,
) -> Path:
    """A file of a Stable Diffusion or an XL in Kohya's format."""
    unet, _ = weights(family.denoiser, UNET_LAYERS, seed=seed, rank=rank)
    if family.name == "stable-diffusion-xl":
        unet = {_as_published(key): tensor for key, tensor in unet.items()}
    state = kohya(unet, "lora_unet_", alphas)
    prefixes = {"text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}
    if family.name == "stable-diffusion-xl":
        prefixes["text_encoder"] = "lora_te1_"
    for part in family.slots.text_parts if text else ():
        own, _ = weights(family.slots.parts[part], TEXT_LAYERS, seed=seed, rank=rank)
        # Kohya's names are those of a time when this part stood around them all.
        named = {f"text_model.{key.removeprefix('text_model.')}": own[key] for key in own}
        state |= kohya(named, prefixes[part], alphas[:1])
    save_file(state, path)
    return path


def _as_published(key: str) -> str:
    """Kohya's XL has the names of the original code. For the tiny UNet: two blocks of one layer."""
    places = {
        "down_blocks.1.attentions.0": "input_blocks.3.1",
        "mid_block.attentions.0": "middle_block.1",
        "up_blocks.0.attentions.0": "output_blocks.0.1",
        "up_blocks.0.attentions.1": "output_blocks.1.1",
        "down_blocks.0.resnets.0.conv1": "input_blocks.1.0.in.layers.2",
        "down_blocks.1.resnets.0.conv1": "input_blocks.3.0.in.layers.2",
        "mid_block.resnets.0.conv1": "middle_block.0.in.layers.2",
        "mid_block.resnets.1.conv1": "middle_block.2.in.layers.2",
        "up_blocks.0.resnets.0.conv1": "output_blocks.0.0.in.layers.2",
        "up_blocks.0.resnets.1.conv1": "output_blocks.1.0.in.layers.2",
        "up_blocks.1.resnets.0.conv1": "output_blocks.2.0.in.layers.2",
        "up_blocks.1.resnets.1.conv1": "output_blocks.3.0.in.layers.2",
    }
    for ours, theirs in places.items():
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    raise AssertionError(key)


def save_kohya_flux(path: Path, family: Family, *, seed: int, rank: int = 4) -> Path:
    """A file of a FLUX in Kohya's format, where query, key and value are one layer."""
    width = family.denoiser.inner_dim
    random = torch.Generator().manual_seed(seed)

    def layer(name: str, inside: int, out: int, alpha: float) -> Tensors:
        return {
            f"{name}.lora_down.weight": torch.randn(rank, inside, generator=random) / inside**0.5,
            f"{name}.lora_up.weight": torch.randn(out, rank, generator=random) / rank**0.5,
            f"{name}.alpha": torch.tensor(alpha),
        }

    state = layer("lora_unet_double_blocks_0_img_attn_qkv", width, 3 * width, 2.0)
    state |= layer("lora_unet_double_blocks_0_txt_attn_proj", width, width, 1.0)
    state |= layer("lora_unet_double_blocks_0_img_mlp_0", width, 4 * width, 4.0)
    state |= layer("lora_unet_single_blocks_0_linear2", 5 * width, width, 2.0)
    own, _ = weights(family.slots.parts["text_encoder"], TEXT_LAYERS, seed=seed, rank=rank)
    named = {f"text_model.{key.removeprefix('text_model.')}": own[key] for key in own}
    save_file(state | kohya(named, "lora_te1_", (2.0,)), path)
    return path
