"""What the model's parts cost alone, and the images per second that this allows at best."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import msgspec
import torch

from deployments.diffusion.families.family import Family
from deployments.diffusion.settings import DiffusionSettings

REPEATS = 7
DECODED = (1, 2, 4)
"""Pictures that are decoded together, prompts that are encoded together."""


class Curves(msgspec.Struct, kw_only=True):
    """Median seconds of one call, by how much the call does."""

    step_s: dict[int, float]
    """By lanes."""
    decode_s: dict[int, float]
    """By pictures."""
    prompts_s: dict[int, float]
    """By prompts."""

    def image_s(self, lane_steps: float) -> float:
        """Seconds of a picture that takes so many lanes' steps, each part at its cheapest."""
        parts = (self.step_s, self.decode_s, self.prompts_s)
        step, decode, prompt = (
            min(seconds / size for size, seconds in part.items()) for part in parts
        )
        return lane_steps * step + decode + prompt


@torch.inference_mode()
def measured(family: Family, settings: DiffusionSettings) -> Curves:
    """The curves of a family, with the denoiser compiled as the settings say."""
    side = family.native_side // family.latent_factor
    latents = torch.randn(1, family.latent_channels, side, side, device=family.device)
    (empty,) = family.tokenize("", weighting=False, max_chunks=1).chunks
    (house,) = family.tokenize("a red house", weighting=False, max_chunks=1).chunks
    text = family.encode_prompts([empty])
    denoise = _compiled(family, settings)

    def step(lanes: int) -> torch.Tensor:
        timesteps = torch.full((lanes,), 500.0, device=family.device)
        told = {name: torch.cat([lane] * lanes) for name, lane in text.items()}
        return denoise(torch.cat([latents] * lanes), timesteps, told)

    def decode(pictures: int) -> torch.Tensor:
        return family.decode(torch.cat([latents] * pictures)).cpu()

    def prompts(count: int) -> torch.Tensor:
        return next(iter(family.encode_prompts([house] * count).values()))

    return Curves(
        step_s=_medians(step, settings.lane_buckets),
        decode_s=_medians(decode, DECODED),
        prompts_s=_medians(prompts, DECODED),
    )


def _compiled(family: Family, settings: DiffusionSettings) -> Callable[..., torch.Tensor]:
    if settings.compile_mode is None:
        return family.denoise
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(family.denoise, mode=settings.compile_mode, dynamic=False)


def _medians(call: Callable[[int], torch.Tensor], sizes: Sequence[int]) -> dict[int, float]:
    """Sizes take turns, so that a busy moment of the machine falls on all of them."""
    for size in sizes:
        for _ in range(3):  # the first compiles, the second records CUDA graphs
            call(size)
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(REPEATS):
        for size in sizes:
            begun_s = time.perf_counter()
            call(size).flatten()[0].item()  # .item() waits for the device
            times[size].append(time.perf_counter() - begun_s)
    return {size: statistics.median(seconds) for size, seconds in times.items()}
