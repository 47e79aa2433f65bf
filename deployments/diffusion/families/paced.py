"""No model at all: takes the time that a named GPU would take, and draws stripes that say so.

For planning and for tests: autoscaling, routing, overload and the loss of nodes can be tried at the
size of a fleet on two cores. Queue, batches, samplers, noise and codecs are the real ones; only the
denoiser, the autoencoder and the text encoders wait instead of computing.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from PIL import Image, ImageDraw

from deployments.diffusion.adapters.slots import Slots
from deployments.diffusion.capacity import CapacityCurve
from deployments.diffusion.chunks import Chunk, Tokens
from deployments.diffusion.families.family import Conditioning, Family, Side
from deployments.diffusion.families.latent_rgb import STABLE_DIFFUSION

LATENT_FACTOR = 64
"""Of a real model 8; fewer cells cost the planner less."""


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pace file: what a device takes for each part of a model."""

    device: str
    model: str
    origin: str
    """Measured how, or computed from what."""
    native_side: int
    prompt_s: float
    """One prompt."""
    curve: CapacityCurve
    """Steps, decoding and encoding at the native size."""


def read_pace(path: Path) -> Pace:
    """Raises ValueError with the file, what is wrong with it, and what it should have."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Pace)
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise ValueError(
            f"pace file {path} cannot be used: {error}; give a JSON file as those in configs/paces"
        ) from error


class Paced(Family):
    """As many lanes as one likes, on the CPU."""

    name = "paced"
    latent_map = STABLE_DIFFUSION
    default_guidance = 7.5

    def __init__(self, pace: Pace) -> None:
        self.pace, self.device = pace, torch.device("cpu")
        self.latent_channels, self.latent_factor = 4, LATENT_FACTOR
        self.encoder_is_random = False
        self.slots = Slots({}, None, self.device)
        self.scheduler_name = "EulerDiscreteScheduler"
        self.scheduler_config: Mapping[str, object] = {
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "clip_sample": False,
        }

    @property
    def denoiser(self) -> None:
        """There is none."""

    @property
    def native_side(self) -> int:
        """As the pace file has it."""
        return self.pace.native_side

    def tokenize(
        self, prompt: str, *, weighting: bool, max_chunks: int, side: Side = "prompt"
    ) -> Tokens:
        """One chunk for each text, which nobody reads."""
        chunk = Chunk(ids=tuple(prompt.encode()[:75]), weights=())
        return Tokens(chunks=(chunk,), length=len(chunk.ids), dropped=0)

    def encode_prompts(self, chunks: Sequence[Chunk]) -> Conditioning:
        """Waits for each."""
        time.sleep(self.pace.prompt_s * len(chunks))
        return {"encoder_hidden_states": torch.zeros(len(chunks), 1, 1)}

    def denoise(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """Waits for a step of so many lanes, and finds no noise in them."""
        cells = latents.shape[-2] * latents.shape[-1]
        area = cells * LATENT_FACTOR**2 / self.pace.native_side**2
        time.sleep(self.pace.curve.step_at(len(latents) * max(area, 1.0)))
        return torch.zeros_like(latents)

    def encode_images(self, pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Waits for each, and sees its mean colours."""
        time.sleep(self.pace.curve.encode_image_s * len(pixels))
        colours = torch.nn.functional.avg_pool2d(pixels, LATENT_FACTOR)
        return torch.cat([colours, colours[:, :1]], dim=1)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Waits for each, and draws its seed's noise large, with a line of text across it."""
        time.sleep(self.pace.curve.decode_s * len(latents))
        flat = self.preview(latents).repeat_interleave(LATENT_FACTOR, 1)
        pictures = flat.repeat_interleave(LATENT_FACTOR, 2).numpy()
        return torch.from_numpy(np.stack([self._labelled(picture) for picture in pictures]))

    def preview(self, latents: torch.Tensor) -> torch.Tensor:
        """One pixel a cell."""
        shares = latents[:, :3] / latents.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
        rgb: torch.Tensor = (shares / 2 + 0.5).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
        return rgb

    def _labelled(self, picture: np.ndarray) -> np.ndarray:
        image = Image.fromarray(picture)
        words = f"paced as {self.pace.model} on {self.pace.device}: no model ran"
        ImageDraw.Draw(image).text((8, 8), words, fill="black", stroke_fill="white", stroke_width=2)
        return np.asarray(image)
