"""The embedded model's latent-to-RGB map: least squares from latents to small pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from torch.nn import functional

from deployments.diffusion.families import latent_rgb

from .autoencoder import FACTOR, to_tensor
from .pictures import PictureSet

PATCH = 4
"""Pixels of the preview along each side of a latent cell."""
FITTED_ON = 400
"""Pictures, so 100,000 cells for 13 unknowns each."""


@torch.inference_mode()
def fit(vae: AutoencoderTiny, pictures: PictureSet, out: Path) -> None:
    """Fits the map on the first pictures, and writes it into the model's folder."""
    inputs, targets = [], []
    for picture in pictures.pixels[:FITTED_ON]:
        pixels = to_tensor(np.ascontiguousarray(picture[None])).to(vae.device)
        latents = vae.encode(pixels).latents * vae.config.scaling_factor
        small = functional.avg_pool2d(pixels, FACTOR // PATCH)
        inputs.append(_cells(latents))
        targets.append(_cells(functional.pixel_unshuffle(small, PATCH)))
    cells = torch.cat(inputs)
    with_bias = torch.cat([cells, torch.ones(len(cells), 1)], dim=1)
    solution = torch.linalg.lstsq(with_bias, torch.cat(targets)).solution
    (out / latent_rgb.FILE).write_text(
        json.dumps({"weights": _rounded(solution[:-1]), "bias": _rounded(solution[-1])}) + "\n"
    )


def _cells(tensor: torch.Tensor) -> torch.Tensor:
    """(1, C, h, w) -> (h * w, C)"""
    return tensor[0].flatten(1).T.float().cpu()


def _rounded(tensor: torch.Tensor) -> list[object]:
    values: NDArray[np.float64] = tensor.double().numpy().round(4)
    return list(values.tolist())
