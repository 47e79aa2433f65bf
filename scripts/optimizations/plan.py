"""What is measured: each switch alone, against the plain model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

PLAIN, PLAIN_LARGE, BEST = "plain", "plain_large", "best"

PLAIN_SETTINGS: Mapping[str, Any] = {"channels_last": False, "dtype": "float32"}
"""Nothing is on: diffusers' defaults, but for its attention, which is torch's own already."""

LARGE = 4
"""Sides of the large picture, in native sides."""


class Switch(msgspec.Struct, frozen=True):
    """One row of the table."""

    name: str
    settings: Mapping[str, Any] = {}
    """Of the model, in the place of PLAIN_SETTINGS."""
    asked: Mapping[str, Any] = {}
    """Of every request."""
    is_large: bool = False
    """Whether it is measured with one large picture, since smaller ones do not show it."""

    @property
    def against(self) -> str:
        """The row that it is compared with."""
        return PLAIN_LARGE if self.is_large else PLAIN


def switches(tiny_vae: str) -> Iterator[Switch]:
    """Every switch alone; the plain rows come before what is compared with them."""
    yield Switch(PLAIN)
    yield Switch("channels_last", {"channels_last": True})
    for dtype in ("bfloat16", "float16"):
        yield Switch(dtype, {"dtype": dtype})
    for attention in ("sliced", "plain", "xformers"):
        yield Switch(f"attention_{attention}", {"attention": attention})
    for attention in ("flash", "sage"):  # their kernels take 16 bits only
        yield Switch(f"attention_{attention}", {"attention": attention, "dtype": "bfloat16"})
    yield Switch("fused_qkv", {"fused_qkv": True})
    for quantization in ("int8", "int8-dynamic", "fp8"):
        yield Switch(_named(quantization), {"quantization": quantization})
    yield Switch("fp8_dynamic", {"quantization": "fp8-dynamic", "dtype": "bfloat16"})
    yield Switch("deep_cache", {"deep_cache": 2})
    yield Switch("first_block_cache", {"first_block_cache": 0.1})
    yield Switch("guidance_interval", asked={"guidance_end": 0.5})
    yield Switch("vae_slicing", {"vae_slicing": True})
    if tiny_vae:
        yield Switch("tiny_vae", {"tiny_vae": tiny_vae, "tiny_vae_for": "everything"})
    for offload in ("model", "sequential", "group"):
        yield Switch(f"offload_{offload}", {"offload": offload})
    for mode in ("default", "reduce-overhead", "max-autotune"):
        yield Switch(_named(f"compile_{mode}"), {"compile": mode})
    yield Switch("compile_regional", {"compile": "default", "compile_scope": "regional"})
    yield Switch(PLAIN_LARGE, is_large=True)
    yield Switch("vae_tiling", {"vae_tiling": True}, is_large=True)


def _named(value: str) -> str:
    return value.replace("-", "_")


GAIN = 1.02
"""What a switch must win in images per second to be in the best combination ..."""
FAITHFUL_DB = 30.0
"""... and how near its pictures must be to the plain ones."""


def best(found: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Switch]) -> Switch:
    """All that alone made pictures faster and no worse; of those that set the same, the fastest.

    What is asked of requests is left out: it is for those who ask.
    """
    plain = found[PLAIN]["images_per_s"]
    settings: dict[str, Any] = {}
    faster = [
        name
        for name, figures in found.items()
        if figures.get("images_per_s", 0) > GAIN * plain and figures["psnr_db"] >= FAITHFUL_DB
    ]
    for name in sorted(faster, key=lambda name: -found[name]["images_per_s"]):
        switch = measured[name]
        if not switch.is_large and not set(switch.settings) & set(settings):
            settings |= switch.settings
    return Switch(BEST, settings)
