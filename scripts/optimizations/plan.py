"""What is measured: each switch alone, against the model without it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from deployments.diffusion.settings import DiffusionSettings

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
    against: str = PLAIN
    """The row that it is compared with: its settings but for the switch."""
    is_large: bool = False
    """Whether it is measured with one large picture, since smaller ones do not show it."""


def switches(tiny_vae: str) -> Iterator[Switch]:
    """Every switch alone; rows come before what is compared with them."""
    yield Switch(PLAIN)
    yield Switch("channels_last", {"channels_last": True})
    for dtype in ("bfloat16", "float16"):
        yield Switch(dtype, {"dtype": dtype})
    for attention in ("sliced", "plain", "xformers"):
        yield Switch(f"attention_{attention}", {"attention": attention})
    for attention in ("flash", "sage"):  # their kernels take 16 bits only
        yield _in_bfloat16(f"attention_{attention}", {"attention": attention})
    yield Switch("fused_qkv", {"fused_qkv": True})
    for quantization in ("int8", "int8-dynamic", "fp8"):
        yield Switch(_named(quantization), {"quantization": quantization})
    yield _in_bfloat16("fp8_dynamic", {"quantization": "fp8-dynamic"})
    yield Switch("deep_cache", {"deep_cache": 2})
    yield Switch("first_block_cache", {"first_block_cache": 0.1})
    yield Switch("guidance_interval", asked={"guidance_end": 0.5})
    yield Switch("vae_slicing", {"vae_slicing": True})
    if tiny_vae:
        yield Switch("tiny_vae", {"tiny_vae": tiny_vae, "tiny_vae_for": "everything"})
    for offload in ("model", "sequential", "group"):
        yield Switch(f"offload_{offload}", {"offload": offload})
    yield from _compiled()
    yield Switch(PLAIN_LARGE, against=PLAIN_LARGE, is_large=True)
    yield Switch("vae_tiling", {"vae_tiling": True}, against=PLAIN_LARGE, is_large=True)


def _compiled() -> Iterator[Switch]:
    for mode in ("default", "reduce-overhead", "max-autotune"):
        yield Switch(_named(f"compile_{mode}"), {"compile": mode})
    yield Switch("compile_regional", {"compile": "default", "compile_scope": "regional"})
    # Eager, torchao's layers take several kernels each; what 8 bits gain shows only compiled.
    for quantization in ("int8", "int8-dynamic", "fp8"):
        yield Switch(
            _named(f"{quantization}_compiled"),
            {"quantization": quantization, "compile": "default"},
            against="compile_default",
        )


def _in_bfloat16(name: str, settings: Mapping[str, Any]) -> Switch:
    return Switch(name, {**settings, "dtype": "bfloat16"}, against="bfloat16")


def _named(value: str) -> str:
    return value.replace("-", "_")


def with_baselines(names: Collection[str], measured: Mapping[str, Switch]) -> list[Switch]:
    """The switches of these names and what they are compared with, in the order of `measured`."""
    wanted = {PLAIN, *names}
    while missing := {measured[name].against for name in wanted} - wanted:
        wanted |= missing
    return [switch for name, switch in measured.items() if name in wanted]


GAIN = 1.02
"""What a switch must win in images per second to be in the best combination ..."""
FAITHFUL_DB = 30.0
"""... and how near its pictures must be to those without it."""


def best(found: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Switch]) -> Switch:
    """All that alone made pictures faster and no worse; what does not go with a faster one is left
    out.

    What is asked of requests is left out too: it is for those who ask.
    """
    chosen: dict[str, Any] = {}
    faster = [s for s in measured.values() if not s.is_large and _gains(s, found, measured)]
    for switch in sorted(faster, key=lambda switch: -found[switch.name]["images_per_s"]):
        differs = any(chosen.get(key, value) != value for key, value in switch.settings.items())
        if not differs and _go_together({**chosen, **switch.settings}):
            chosen |= switch.settings
    return Switch(BEST, chosen)


def _gains(
    switch: Switch, found: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Switch]
) -> bool:
    """Whether it was measured, is faster and faithful, and so is all that it is compared with."""
    figures, baseline = found.get(switch.name, {}), found.get(switch.against, {})
    if switch.name == PLAIN or "psnr_db" not in figures:
        return False
    is_better = (
        figures["images_per_s"] > GAIN * baseline["images_per_s"]
        and figures["psnr_db"] >= FAITHFUL_DB
    )
    return is_better and (
        switch.against == PLAIN or _gains(measured[switch.against], found, measured)
    )


def _go_together(settings: Mapping[str, Any]) -> bool:
    try:
        DiffusionSettings(id="bench", source="embedded", **{**PLAIN_SETTINGS, **settings})
    except ValueError:
        return False
    return True
