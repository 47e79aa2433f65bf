"""The linear map from latents to a small picture, with which previews are made."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch

FILE = "latent_rgb.json"
"""Beside a model's weights: {"weights": C rows of 3 * p * p numbers, "bias": as many}."""

STABLE_DIFFUSION = (
    (0.3512, 0.2297, 0.3227),
    (0.3250, 0.4974, 0.2350),
    (-0.2829, 0.1762, 0.2721),
    (-0.2120, -0.2616, -0.7177),
)
"""Stable Diffusion 1.x and 2.x: channels to red, green and blue in -1..1 (from ComfyUI)."""


@dataclass(frozen=True)
class LatentRgb:
    """Every latent cell becomes a patch of p x p pixels."""

    weights: torch.Tensor
    """(C, 3 * p * p), float32, for scaled latents and pixels in -1..1."""
    bias: torch.Tensor
    """(3 * p * p,)"""

    @classmethod
    def of_model(cls, folder: Path, channels: int) -> "LatentRgb":
        """The model's own map if its folder has one, else that of its family.

        A model with other channels and no map of its own shows its first channel in grey.
        """
        if (folder / FILE).is_file():
            fitted = json.loads((folder / FILE).read_text())
            return cls(torch.tensor(fitted["weights"]), torch.tensor(fitted["bias"]))
        if channels == len(STABLE_DIFFUSION):
            return cls(torch.tensor(STABLE_DIFFUSION), torch.zeros(3))
        grey = torch.zeros(channels, 3)
        grey[0] = 0.5
        return cls(grey, torch.zeros(3))

    def to(self, device: torch.device) -> "LatentRgb":
        """The same map on a device."""
        return replace(self, weights=self.weights.to(device), bias=self.bias.to(device))

    def pixels(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, C, h, w) -> (n, h * p, w * p, 3) uint8."""
        patches = torch.einsum("nchw,ck->nkhw", latents, self.weights)
        side = int((len(self.bias) // 3) ** 0.5)
        rgb = torch.nn.functional.pixel_shuffle(patches + self.bias[:, None, None], side)
        return (rgb / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
