"""A family's autoencoder: pixels to latents as the denoiser knows them, and back."""

from typing import Any

import torch
from diffusers import AutoencoderTiny


class Autoencoder:
    """diffusers' `vae` of a pipeline, in its own dtype, which may be wider than the denoiser's."""

    def __init__(self, vae: Any, memory_format: torch.memory_format) -> None:
        self.vae = vae
        self._memory_format = memory_format
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
        encoded = self.vae.encode(pixels.to(self.vae.dtype, memory_format=self._memory_format))
        if self.is_random:
            posterior = encoded.latent_dist
            latents = posterior.mean.float() + posterior.std.float() * noise
        else:
            latents = encoded.latents.float()
        mean, std = self._mean.to(latents.device), self._std.to(latents.device)
        scaled: torch.Tensor = (latents - mean) / std * self._scale
        return scaled

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, C, h, w) -> (n, H, W, 3) uint8, rounded on the device so that a quarter crosses."""
        mean, std = self._mean.to(latents.device), self._std.to(latents.device)
        scaled = (latents / self._scale * std + mean).to(self.vae.dtype)
        pixels: torch.Tensor = self.vae.decode(scaled, return_dict=False)[0].float()
        return (pixels / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)


def _per_channel(values: list[float] | None, otherwise: float) -> torch.Tensor:
    """(1, C, 1, 1), or one number for all channels."""
    return torch.tensor([otherwise] if values is None else values).view(1, -1, 1, 1)
