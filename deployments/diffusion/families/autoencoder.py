"""A family's autoencoder: pixels to latents as the denoiser knows them, and back."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderTiny

from deployments.diffusion.families.tiling import Span, Tiling


class Autoencoder:
    """diffusers' `vae` of a pipeline, in its own dtype, which may be wider than the denoiser's."""

    def __init__(
        self, vae: Any, memory_format: torch.memory_format, tiling: Tiling | None = None
    ) -> None:
        self.vae = vae
        self._memory_format, self._tiling = memory_format, tiling
        self.is_random = not isinstance(vae, AutoencoderTiny)
        config = vae.config
        self._scale: float = config.scaling_factor
        self._shift: float = getattr(config, "shift_factor", None) or 0.0
        self._mean = _per_channel(getattr(config, "latents_mean", None), self._shift)
        self._std = _per_channel(getattr(config, "latents_std", None), 1.0)

    @property
    def latent_channels(self) -> int:
        """C of the latents."""
        return int(self.vae.config.latent_channels)

    def encode(self, pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """(n, 3, H, W) in -1..1 -> (n, C, h, w); the posterior is sampled with the given noise."""
        factor = pixels.shape[-1] // noise.shape[-1]

        def encoded(rows: Span, columns: Span) -> torch.Tensor:
            tile = pixels[..., rows.times(factor), columns.times(factor)]
            return self._encoded(tile, noise[..., rows.times(1), columns.times(1)])

        latents = self._tiled(encoded, *noise.shape[-2:])
        mean, std = self._mean.to(latents.device), self._std.to(latents.device)
        scaled: torch.Tensor = (latents - mean) / std * self._scale
        return scaled

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, C, h, w) -> (n, H, W, 3) uint8, rounded on the device so that a quarter crosses."""
        mean, std = self._mean.to(latents.device), self._std.to(latents.device)
        scaled = (latents / self._scale * std + mean).to(self.vae.dtype)

        def decoded(rows: Span, columns: Span) -> torch.Tensor:
            tile = scaled[..., rows.times(1), columns.times(1)]
            pixels: torch.Tensor = self.vae.decode(tile, return_dict=False)[0]
            return pixels.float()

        pixels = self._tiled(decoded, *scaled.shape[-2:])
        # In place: of a large picture every copy counts.
        pixels.div_(2).add_(0.5).clamp_(0, 1).mul_(255).round_()
        return pixels.to(torch.uint8).permute(0, 2, 3, 1)

    def _tiled(
        self, work: Callable[[Span, Span], torch.Tensor], height: int, width: int
    ) -> torch.Tensor:
        """What `work` makes of so many latent cells, in tiles where there is a tiling."""
        if self._tiling is not None and self._tiling.is_needed(height, width):
            return self._tiling.blended(work, height, width)
        return work(Span(0, height), Span(0, width))

    def _encoded(self, pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        found = self.vae.encode(pixels.to(self.vae.dtype, memory_format=self._memory_format))
        if not self.is_random:
            latents: torch.Tensor = found.latents
            return latents.float()
        posterior = found.latent_dist
        sampled: torch.Tensor = posterior.mean.float() + posterior.std.float() * noise
        return sampled


def _per_channel(values: list[float] | None, otherwise: float) -> torch.Tensor:
    """(1, C, 1, 1), or one number for all channels."""
    return torch.tensor([otherwise] if values is None else values).view(1, -1, 1, 1)
