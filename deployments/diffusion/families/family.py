"""What a model family must know how to do. It knows no rows, no queue and no sampler."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import torch

from deployments.diffusion.chunks import Chunk, Tokens
from deployments.diffusion.samplers import Sampler
from deployments.diffusion.sampling import FlowShift

Conditioning = Mapping[str, torch.Tensor]
"""What the denoiser is told besides latents and time; every tensor's first axis is the lane."""

SEEN_IMAGE = "seen_image"
"""The conditioning of a denoiser that sees the picture which it repaints: (lanes, 1 + C, h, w), the
mask and the latents of what the mask leaves. Text encoders give none; the encoder adds it."""

Size = tuple[int, int]
"""Width and height in pixels."""

Side = Literal["prompt", "negative"]
"""Which of a row's two texts a lane reads."""


class Family(Protocol):
    """One loaded model. Tensors in and out are float32 on the model's device."""

    name: str
    device: torch.device
    latent_channels: int
    latent_factor: int
    """Pixels per latent cell along each side."""
    size_multiple: int
    """Width and height are multiples of this many pixels."""
    native_side: int
    """Pixels along each side of the square the model was trained at."""
    max_chunks: int
    """Chunks of text that it reads; where it is 1, longer prompts are cut off."""
    encoder_is_random: bool
    """Whether encoding an image draws from the row's generator (AutoencoderKL does)."""
    sees_image: bool
    """Whether the denoiser sees mask and masked image as more channels (inpainting models)."""
    has_second_lane: bool
    """Whether guidance takes a lane without the prompt. Distilled models are told the scale, or
    know none; they read no negative prompt."""
    default_guidance: float
    default_steps: int
    scheduler_config: Mapping[str, Any]
    scheduler_name: str
    samplers: Mapping[str, Sampler]
    """By the names that requests may ask for."""

    def tokenize(self, prompt: str, *, weighting: bool, max_chunks: int, side: Side) -> Tokens:
        """A prompt in chunks. For one thread at a time, since tokenizers are not thread-safe."""

    def encode_prompts(self, chunks: Sequence[Chunk]) -> Conditioning:
        """One lane per chunk, each read by itself."""

    def join_chunks(self, chunks: Sequence[Conditioning]) -> Conditioning:
        """One lane each, the chunks of one prompt in order -> the prompt's lane."""

    def told(self, size: Size, guidance_scale: float) -> Conditioning:
        """One lane: what the denoiser is told of a row besides its text."""

    def flow_shift(self, size: Size) -> FlowShift | None:
        """How noise levels are spaced; None unless the model was trained by flow matching."""

    def denoise(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """(lanes, C, h, w) scaled latents, (lanes,) timesteps -> the model's output, same shape."""

    def encode_images(self, pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """(n, 3, H, W) in -1..1 and (n, C, h, w) normal noise -> (n, C, h, w) latents."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, C, h, w) latents -> (n, H, W, 3) uint8 pixels, still on the device."""

    def preview(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, C, h, w) latents -> (n, H', W', 3) uint8 pixels, small and rough, on the device."""

    def compile_blocks(self, mode: str) -> None:
        """Compiles the blocks that the denoiser repeats, once for all of them."""
