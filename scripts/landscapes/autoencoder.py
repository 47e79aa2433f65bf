"""Stage one: an autoencoder that turns a 256x256 picture into 16x16 latents and back.

`AutoencoderTiny`, because it has no group norm: at this size a group norm throws away the level
of flat areas, and with it the colours of small things.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from . import checkpoint
from .canvas import BODY
from .pictures import PictureSet
from .progress import Progress
from .world import SIZE

LATENT_CHANNELS = 12
WIDTH = 64
FACTOR = 16
CROP = 96
BATCH = 8
PEAK_LEARNING_RATE = 2e-3
POLISH_LEARNING_RATE = 1e-3
LATENT_NOISE = 0.03
SAVE_EVERY = 250

MINIMUM_PSNR_DB = 28.0
MINIMUM_COLOURS_KEPT = 0.97
COLOUR_TOLERANCE = 12.0
"""How far (of 255) the mean colour of a subject's body may move, per band."""


@dataclass(frozen=True)
class Fidelity:
    """How well held-out pictures survive the way into latents and back."""

    psnr_db: float
    colours_kept: float

    @property
    def good_enough(self) -> bool:
        """Whether it is worth training a denoiser on these latents."""
        return self.psnr_db >= MINIMUM_PSNR_DB and self.colours_kept >= MINIMUM_COLOURS_KEPT


def build() -> AutoencoderTiny:
    """An untrained autoencoder: five levels, so a factor of 16."""
    return AutoencoderTiny(
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=(WIDTH,) * 5,
        decoder_block_out_channels=(WIDTH,) * 5,
        num_encoder_blocks=(0, 1, 1, 1, 2),
        num_decoder_blocks=(3, 2, 1, 1, 0),
    )


def train(
    pictures: PictureSet,
    *,
    work: Path,
    steps: int,
    seed: int,
    device: torch.device,
    compiled: bool = False,
) -> AutoencoderTiny:
    """Train encoder and decoder to `steps`, from the checkpoint in `work` if there is one."""
    torch.manual_seed(seed)
    model = build().to(device, memory_format=torch.channels_last).train()
    encoder, decoder = (
        torch.compile(part) if compiled else part for part in (model.encoder, model.decoder)
    )

    def loss(rng: np.random.Generator) -> torch.Tensor:
        crops = _crops(pictures.pixels, rng).to(device)
        return _loss(encoder, decoder, crops)

    path = work / "autoencoder.pt"
    _run("autoencoder", model, loss, PEAK_LEARNING_RATE, path=path, steps=steps, seed=seed)
    return model.eval()


def polish(
    model: AutoencoderTiny,
    pictures: PictureSet,
    repaired: Callable[[NDArray[np.int64], np.random.Generator], torch.Tensor],
    *,
    work: Path,
    steps: int,
    seed: int,
) -> AutoencoderTiny:
    """Train the decoder alone to `steps`, on latents as the denoiser leaves them.

    `repaired` gives them for the pictures of these numbers. The decoder so learns to draw clean
    edges from what sampling gets slightly wrong.
    """
    model.decoder.train()

    def loss(rng: np.random.Generator) -> torch.Tensor:
        chosen = np.sort(rng.integers(len(pictures.pixels), size=BATCH))
        crops, cells = _cells(pictures.pixels[chosen], repaired(chosen, rng), rng)
        return _loss(lambda _: cells, model.decoder, crops.to(model.device))

    path = work / "decoder.pt"
    _run("decoder", model.decoder, loss, POLISH_LEARNING_RATE, path=path, steps=steps, seed=seed)
    return model.eval()


def _run(
    stage: str,
    model: nn.Module,
    loss_of: Callable[[np.random.Generator], torch.Tensor],
    peak: float,
    *,
    path: Path,
    steps: int,
    seed: int,
) -> None:
    """The loop of both stages; batch `step` depends on the seed and the step alone."""
    optimizer = torch.optim.AdamW(model.parameters(), peak, weight_decay=1e-4)
    start = 0
    if path.exists():
        state = checkpoint.load(path, next(model.parameters()).device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    progress = Progress(stage, start, steps)
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = peak * min((step + 1) / 100, 1 - step / steps)
        loss = loss_of(np.random.default_rng([seed, step]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        progress.report(step + 1, loss.item())
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            checkpoint.save(path, state | {"step": step + 1})


def _crops(pixels: NDArray[np.uint8], rng: np.random.Generator) -> torch.Tensor:
    """Square crops, two of three around the subject, from -1 to 1."""
    crops = []
    for index in rng.integers(len(pixels), size=BATCH):
        near_subject = rng.random() < 2 / 3
        low, high = ((40, 120), (80, 145)) if near_subject else ((0, SIZE - CROP), (0, SIZE - CROP))
        x, y = rng.integers(low[0], low[1] + 1), rng.integers(high[0], high[1] + 1)
        crops.append(pixels[index, y : y + CROP, x : x + CROP])
    return to_tensor(np.stack(crops))


def _cells(
    pixels: NDArray[np.uint8], latents: torch.Tensor, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """One crop of each picture that lies on the grid of its latents, and the latents below it."""
    size, last = CROP // FACTOR, (SIZE - CROP) // FACTOR
    crops, cells = [], []
    for picture, latent in zip(pixels, latents, strict=True):
        x, y = rng.integers(last + 1), rng.integers(last + 1)
        top, left = y * FACTOR, x * FACTOR
        crops.append(picture[top : top + CROP, left : left + CROP])
        cells.append(latent[:, y : y + size, x : x + size])
    return to_tensor(np.stack(crops)), torch.stack(cells)


def to_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Pictures (n, height, width, 3) in uint8 as a channels-last tensor from -1 to 1."""
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    return (tensor / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def _loss(
    encode: Callable[[torch.Tensor], torch.Tensor],
    decoder: Callable[[torch.Tensor], torch.Tensor],
    crops: torch.Tensor,
) -> torch.Tensor:
    # bfloat16 halves the time of a step on a processor that has it, and costs no quality here.
    with torch.autocast(crops.device.type, torch.bfloat16):
        latents = encode(crops)
        noisy = latents + LATENT_NOISE * torch.randn_like(latents)
        output = decoder(noisy).float()
    error = functional.mse_loss(output, crops) + 0.3 * functional.l1_loss(output, crops)
    return error + 1e-3 * latents.float().square().mean()


@torch.inference_mode()
def fidelity(model: AutoencoderTiny, held_out: PictureSet) -> Fidelity:
    """Measure reconstructions of held-out pictures."""
    assert held_out.owners is not None
    errors, kept = [], []
    for picture, owner in zip(held_out.pixels, held_out.owners, strict=True):
        original = to_tensor(picture[None]).to(model.device)
        output = model.decoder(model.encoder(original)).clamp(-1, 1)
        drawn, decoded = (
            image[0].permute(1, 2, 0).float().cpu().numpy() for image in (original, output)
        )
        errors.append(np.square(drawn - decoded).mean() / 4)
        body = owner == BODY
        moved = np.abs(drawn[body].mean(axis=0) - decoded[body].mean(axis=0)).max() * 127.5
        kept.append(moved <= COLOUR_TOLERANCE)
    return Fidelity(float(-10 * np.log10(np.mean(errors))), float(np.mean(kept)))


@torch.inference_mode()
def encode(
    model: AutoencoderTiny, pictures: PictureSet, path: Path, batch: int = 16
) -> NDArray[np.float16]:
    """The latents of all pictures, computed once and read from `path` afterwards."""
    if path.exists():
        known: NDArray[np.float16] = np.load(path)
        return known
    progress = Progress("latents", 0, len(pictures.pixels))
    parts = []
    for start in range(0, len(pictures.pixels), batch):
        pixels = to_tensor(np.ascontiguousarray(pictures.pixels[start : start + batch]))
        with torch.autocast(model.device.type, torch.bfloat16):
            latents = model.encoder(pixels.to(model.device))
        parts.append(latents.float().cpu().numpy().astype(np.float16))
        progress.report(start + len(pixels), float(parts[-1].std()))
    result = np.concatenate(parts)
    np.save(path, result)
    return result
