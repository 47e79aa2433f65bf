"""What a model family must know how to do. It knows no rows, no queue and no sampler."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from deployments.diffusion.chunks import Chunk, Tokens

Conditioning = Mapping[str, torch.Tensor]
"""What the denoiser is told besides latents and time; every tensor's first axis is the lane."""


Size = tuple[int, int]
"""Width and height in pixels."""


class Family(Protocol):
    """One loaded model. Tensors in and out are float32 on the model's device."""

    name: str
    device: torch.device
    latent_channels: int
    latent_factor: int
    """Pixels per latent cell along each side."""
    native_side: int
    """Pixels along each side of the square the model was trained at."""
    max_chunks: int
    """Chunks of text that it reads; where it is 1, longer prompts are cut off."""
    encoder_is_random: bool
    """Whether encoding an image draws from the row's generator (AutoencoderKL does)."""
    scheduler_config: Mapping[str, Any]
    scheduler_name: str

    def tokenize(self, prompt: str, *, weighting: bool, max_chunks: int) -> Tokens:
        """A prompt in chunks. For one thread at a time, since tokenizers are not thread-safe."""

    def encode_prompts(self, chunks: Sequence[Chunk]) -> Conditioning:
        """One lane per chunk, each read by itself."""

    def join_chunks(self, chunks: Sequence[Conditioning]) -> Conditioning:
        """One lane each, the chunks of one prompt in order -> the prompt's lane."""

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
