"""The linear map from latents to a small picture, with which previews are made."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

FILE = "latent_rgb.json"
"""Beside a model's weights: {"weights": C rows of 3 * p * p numbers, "bias": as many}."""


class Known(NamedTuple):
    """A published map of one pixel a cell: channels to red, green and blue in -1..1.

    Source of the numbers below: ComfyUI, comfy/latent_formats.py.
    """

    weights: tuple[tuple[float, float, float], ...]
    bias: tuple[float, float, float]


STABLE_DIFFUSION = Known(
    (
        (0.3512, 0.2297, 0.3227),
        (0.3250, 0.4974, 0.2350),
        (-0.2829, 0.1762, 0.2721),
        (-0.2120, -0.2616, -0.7177),
    ),
    (0.0, 0.0, 0.0),
)
STABLE_DIFFUSION_XL = Known(
    (
        (0.3651, 0.4232, 0.4341),
        (-0.2533, -0.0042, 0.1068),
        (0.1076, 0.1111, -0.0362),
        (-0.3165, -0.2492, -0.2188),
    ),
    (0.1084, -0.0175, -0.0011),
)
STABLE_DIFFUSION_3 = Known(
    (
        (-0.0922, -0.0175, 0.0749),
        (0.0311, 0.0633, 0.0954),
        (0.1994, 0.0927, 0.0458),
        (0.0856, 0.0339, 0.0902),
        (0.0587, 0.0272, -0.0496),
        (-0.0006, 0.1104, 0.0309),
        (0.0978, 0.0306, 0.0427),
        (-0.0042, 0.1038, 0.1358),
        (-0.0194, 0.0020, 0.0669),
        (-0.0488, 0.0130, -0.0268),
        (0.0922, 0.0988, 0.0951),
        (-0.0278, 0.0524, -0.0542),
        (0.0332, 0.0456, 0.0895),
        (-0.0069, -0.0030, -0.0810),
        (-0.0596, -0.0465, -0.0293),
        (-0.1448, -0.1463, -0.1189),
    ),
    (0.2394, 0.2135, 0.1925),
)
FLUX = Known(
    (
        (-0.0346, 0.0244, 0.0681),
        (0.0034, 0.0210, 0.0687),
        (0.0275, -0.0668, -0.0433),
        (-0.0174, 0.0160, 0.0617),
        (0.0859, 0.0721, 0.0329),
        (0.0004, 0.0383, 0.0115),
        (0.0405, 0.0861, 0.0915),
        (-0.0236, -0.0185, -0.0259),
        (-0.0245, 0.0250, 0.1180),
        (0.1008, 0.0755, -0.0421),
        (-0.0515, 0.0201, 0.0011),
        (0.0428, -0.0012, -0.0036),
        (0.0817, 0.0765, 0.0749),
        (-0.1264, -0.0522, -0.1103),
        (-0.0280, -0.0881, -0.0499),
        (-0.1262, -0.0982, -0.0778),
    ),
    (-0.0329, -0.0718, -0.0851),
)


@dataclass(frozen=True)
class LatentRgb:
    """Every latent cell becomes a patch of p x p pixels."""

    weights: torch.Tensor
    """(C, 3 * p * p), float32, for scaled latents and pixels in -1..1."""
    bias: torch.Tensor
    """(3 * p * p,)"""

    @classmethod
    def of_model(cls, folder: Path | None, channels: int, known: Known) -> "LatentRgb":
        """The model's own map if its folder has one, else `known`, its family's.

        A model with other channels and no map of its own shows its first channel in grey.
        """
        if folder is not None and (folder / FILE).is_file():
            fitted = json.loads((folder / FILE).read_text())
            return cls(torch.tensor(fitted["weights"]), torch.tensor(fitted["bias"]))
        if channels == len(known.weights):
            return cls(torch.tensor(known.weights), torch.tensor(known.bias))
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
