"""Stable Diffusion 1.x and 2.x, and every model saved as a `StableDiffusionPipeline`.

The embedded model is one of them: it is loaded and run by this file like any other.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline

from deployments.diffusion.chunks import Chunk, Chunker, Tokens
from deployments.diffusion.families.family import Conditioning
from deployments.diffusion.families.latent_rgb import LatentRgb

CLIP_TOKENS = 77
"""Positions of the text encoder of Stable Diffusion 1.x and 2.x, whose models bear to be told more
than one chunk. Others were trained with all their text in one."""
MAX_CHUNKS = 4
"""300 tokens, some 230 words."""

_LEAST_MEAN = 1e-4
"""Of the mean magnitude: a mean below it is rounding, and its ratio to another one is noise."""


class StableDiffusion:
    """Text encoder, UNet and autoencoder of one diffusers folder."""

    name = "stable-diffusion"

    def __init__(self, source: str, device: torch.device, dtype: torch.dtype) -> None:
        """`source` is a local folder or a hub id; only safetensors are read."""
        load: Any = StableDiffusionPipeline.from_pretrained
        pipeline = load(
            source,
            dtype=dtype,
            use_safetensors=True,
            safety_checker=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        self.device = device
        self._dtype = dtype
        self._pipeline = pipeline.to(device)
        self._text_encoder: Any = pipeline.text_encoder
        self._chunker = Chunker(pipeline.tokenizer)
        self.max_chunks = MAX_CHUNKS if self._chunker.length == CLIP_TOKENS else 1
        # Convolutions over 16 lanes take 93 ms and not 112 in this layout (embedded model, CPU).
        self._unet: Any = pipeline.unet.to(memory_format=torch.channels_last)
        self._vae: Any = pipeline.vae.to(memory_format=torch.channels_last)
        self.latent_channels: int = self._unet.config.in_channels
        self.latent_factor: int = pipeline.vae_scale_factor
        self.native_side: int = self._unet.config.sample_size * self.latent_factor
        self.encoder_is_random: bool = not isinstance(self._vae, AutoencoderTiny)
        self._latent_rgb = LatentRgb.of_model(Path(source), self.latent_channels).to(device)
        self.scheduler_config: Mapping[str, Any] = dict(pipeline.scheduler.config)
        self.scheduler_name = type(pipeline.scheduler).__name__

    def tokenize(self, prompt: str, *, weighting: bool, max_chunks: int) -> Tokens:
        """Chunks of 75 tokens, or of what the model's tokenizer takes."""
        return self._chunker.tokens(prompt, weighting=weighting, max_chunks=max_chunks)

    def encode_prompts(self, chunks: Sequence[Chunk]) -> Conditioning:
        """One lane per chunk: {"encoder_hidden_states": (n, tokens, width)}."""
        ids = torch.tensor([chunk.ids for chunk in chunks], device=self.device)
        weights = torch.tensor([chunk.weights for chunk in chunks], device=self.device)
        return {"encoder_hidden_states": weighted(self._text_encoder(ids)[0], weights)}

    def join_chunks(self, chunks: Sequence[Conditioning]) -> Conditioning:
        """One after the other along the tokens: (1, chunks * tokens, width)."""
        states = [chunk["encoder_hidden_states"] for chunk in chunks]
        return {"encoder_hidden_states": torch.cat(states, dim=1)}

    def denoise(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """The UNet's output, in float32."""
        latents = latents.to(self._dtype, memory_format=torch.channels_last)
        output: torch.Tensor = self._unet(latents, timesteps, **conditioning, return_dict=False)[0]
        return output.float()

    def encode_images(self, pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Pixels to latents; the posterior is sampled with the row's own noise."""
        encoded = self._vae.encode(pixels.to(self._dtype, memory_format=torch.channels_last))
        if self.encoder_is_random:
            posterior = encoded.latent_dist
            latents = posterior.mean.float() + posterior.std.float() * noise
        else:
            latents = encoded.latents.float()
        scaled: torch.Tensor = latents * self._vae.config.scaling_factor
        return scaled

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to uint8 pixels, rounded on the device so that a quarter of the bytes cross."""
        scaled = (latents / self._vae.config.scaling_factor).to(self._dtype)
        pixels: torch.Tensor = self._vae.decode(scaled, return_dict=False)[0].float()
        return (pixels / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)

    def preview(self, latents: torch.Tensor) -> torch.Tensor:
        """A linear guess of the decoded picture, one pixel or a small patch for each cell."""
        return self._latent_rgb.pixels(latents)

    def compile_blocks(self, mode: str) -> None:
        """Compiles the UNet's transformer blocks; shapes are static."""
        self._unet.compile_repeated_blocks(mode=mode, dynamic=False)


def weighted(states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(n, tokens, width) states times (n, tokens) weights, as AUTOMATIC1111 does it by default.

    Each lane's mean is set back to what it was, unless either mean is as good as 0 (text encoders
    with random weights). A lane whose weights are all 1 keeps its bits.
    """
    whole = states.float()
    heavier = whole * weights[..., None]
    before, after = whole.mean((1, 2)), heavier.mean((1, 2))
    tells = (before.abs() > _LEAST_MEAN * whole.abs().mean((1, 2))) & (
        after.abs() > _LEAST_MEAN * heavier.abs().mean((1, 2))
    )
    factor = torch.where(tells, before / after, 1.0)
    restored = (heavier * factor[:, None, None]).to(states.dtype)
    return torch.where((weights == 1).all(dim=1)[:, None, None], states, restored)
