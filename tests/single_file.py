"""A tiny Stable Diffusion as one checkpoint in the original layout: what `from_single_file` reads.

The names are those of CompVis's latent-diffusion, in which Stable Diffusion was published.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

_UNET = {
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def save_checkpoint(pipeline: Any, path: Path) -> None:
    """The pipeline's UNet, autoencoder and text encoder in one .safetensors file."""
    found = {
        **_prefixed("model.diffusion_model.", _unet(pipeline.unet)),
        **_prefixed("first_stage_model.", _vae(pipeline.vae)),
        **_prefixed("cond_stage_model.transformer.text_model.", _text(pipeline.text_encoder)),
    }
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, path)


def _prefixed(prefix: str, tensors: Iterator[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in tensors}


def _text(encoder: Any) -> Iterator[tuple[str, torch.Tensor]]:
    yield from encoder.state_dict().items()


def _unet(unet: Any) -> Iterator[tuple[str, torch.Tensor]]:
    layers = unet.config.layers_per_block
    for name, tensor in unet.state_dict().items():
        yield _unet_name(name, layers, unet), tensor


def _unet_name(name: str, layers: int, unet: Any) -> str:
    for ours, theirs in _UNET.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    if middle := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        place = 2 * int(middle[2]) + (middle[1] == "attentions")
        return f"middle_block.{place}.{_inner(middle[1], middle[3])}"
    parts = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name)
    assert parts is not None, name
    way, block, kind, layer, rest = parts[1], int(parts[2]), parts[3], int(parts[4]), parts[5]
    first = 1 + block * (layers + 1) if way == "down" else block * (layers + 1)
    side = "input_blocks" if way == "down" else "output_blocks"
    if kind == "downsamplers":
        return f"{side}.{first + layers}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        has_attention = hasattr(unet.up_blocks[block], "attentions")
        return f"{side}.{first + layers}.{1 + has_attention}.{rest}"
    return f"{side}.{first + layer}.{int(kind == 'attentions')}.{_inner(kind, rest)}"


def _inner(kind: str, rest: str) -> str:
    if kind == "attentions":
        return rest
    layer, _, weight = rest.rpartition(".")
    return f"{_RESNET[layer]}.{weight}"


def _vae(vae: Any) -> Iterator[tuple[str, torch.Tensor]]:
    blocks = len(vae.config.block_out_channels)
    for name, tensor in vae.state_dict().items():
        if ".attentions.0." in name and name.endswith("weight") and "norm" not in name:
            tensor = tensor[:, :, None, None]  # a convolution of one pixel there
        yield _vae_name(name, blocks), tensor


def _vae_name(name: str, blocks: int) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    if attention := re.fullmatch(r"(\w+)\.mid_block\.attentions\.0\.(.*)\.(\w+)", name):
        return f"{attention[1]}.mid.attn_1.{_ATTENTION[attention[2]]}.{attention[3]}"
    if middle := re.fullmatch(r"(\w+)\.mid_block\.resnets\.(\d)\.(.*)", name):
        return f"{middle[1]}.mid.block_{int(middle[2]) + 1}.{middle[3]}"
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    up = re.match(r"decoder\.up_blocks\.(\d)\.", name)
    if up is not None:
        level = f"decoder.up.{blocks - 1 - int(up[1])}."
        name = level + name[up.end() :].replace("resnets", "block").replace(
            "upsamplers.0", "upsample"
        )
    return name
