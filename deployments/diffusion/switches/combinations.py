"""Which switches cannot be on together, and why. Knows no torch, so that a config can be checked.

What depends on the device, on packages or on the model is checked where these are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deployments.diffusion.settings import DiffusionSettings

HALVES = ("bfloat16", "float16")
"""The dtypes of two bytes."""

SWITCHES = (
    "channels_last",
    "attention",
    "fused_qkv",
    "quantization",
    "deep_cache",
    "first_block_cache",
    "vae_tiling",
    "vae_slicing",
    "tiny_vae",
    "tiny_vae_for",
    "offload",
)
"""By their names in the settings. What a step costs depends on them."""


def check_combinations(settings: DiffusionSettings) -> None:
    """Raises ValueError for the first combination that cannot work."""
    for reason in _refusals(settings):
        raise ValueError(reason)


def _refusals(settings: DiffusionSettings) -> Iterator[str]:
    attention, dtype = settings.attention, settings.dtype
    quantization, offload = settings.quantization, settings.offload
    if attention in ("flash", "sage") and dtype not in HALVES:
        yield (
            f"attention is {attention!r}, whose kernels know no {dtype}; "
            f"set dtype: bfloat16, or attention: sdpa"
        )
    if settings.fused_qkv and attention in ("sliced", "plain"):
        yield (
            f"fused_qkv is on and attention is {attention!r}, which takes query, key and value "
            "from layers of their own; set fused_qkv: false, or attention: sdpa"
        )
    if quantization == "fp8-dynamic" and dtype != "bfloat16":
        yield (
            f"quantization is 'fp8-dynamic', whose kernels give bfloat16, and dtype is {dtype!r}; "
            "set dtype: bfloat16, or quantization: fp8"
        )
    if offload != "none" and settings.compile_mode is not None:
        yield (
            f"offload is {offload!r} and compile is {settings.compile!r}: a compiled step needs "
            "its weights to stay where they are; set one of them to its default"
        )
    if offload == "sequential" and quantization != "none":
        yield (
            f"offload is 'sequential' and quantization is {quantization!r}: quantized weights "
            "cannot be moved layer by layer that way; set offload: group"
        )
    yield from _cache_refusals(settings)
    if settings.adapters:
        yield from _adapter_refusals(settings)
    if settings.tiny_vae_for == "everything" and not settings.tiny_vae:
        yield (
            "tiny_vae_for is 'everything' and tiny_vae is empty; "
            "set tiny_vae to a folder of an AutoencoderTiny"
        )


def _adapter_refusals(settings: DiffusionSettings) -> Iterator[str]:
    """An adapter acts in the layers that it was trained in, beside their own weights."""
    if settings.fused_qkv:
        yield (
            "fused_qkv is on and there are adapters, which act in the layers that fusing replaces; "
            "set fused_qkv: false, or leave adapters out"
        )
    if settings.quantization != "none":
        yield (
            f"quantization is {settings.quantization!r} and there are adapters, which need layers "
            f"of {settings.dtype}; set quantization: none, or leave adapters out"
        )
    if settings.offload in ("sequential", "group"):
        yield (
            f"offload is {settings.offload!r} and there are adapters, which need layers that stay "
            "in one place; set offload: model, or leave adapters out"
        )


def _cache_refusals(settings: DiffusionSettings) -> Iterator[str]:
    """A step cache decides in every step which lanes run which blocks."""
    if settings.deep_cache > 1:
        said, off = f"deep_cache is {settings.deep_cache}", "deep_cache: 1"
    elif settings.first_block_cache:
        said, off = f"first_block_cache is {settings.first_block_cache:g}", "first_block_cache: 0"
    else:
        return
    if settings.compile_mode is not None:
        yield f"{said} and compile is {settings.compile!r}, whose steps are all alike; set {off}"
    if settings.strict:
        yield (
            f"{said} and strict is on: lanes then run in batches of any size, and the last bits "
            f"depend on that; set strict: false, or {off}"
        )
    if settings.offload == "group":
        yield (
            f"{said} and offload is 'group', which fetches layers in the order in which they ran "
            f"first; set offload: model, or {off}"
        )
