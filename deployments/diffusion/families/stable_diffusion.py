"""Stable Diffusion 1.x and 2.x, and every model saved as a `StableDiffusionPipeline`.

The embedded model is one of them: it is loaded and run by this file like any other. So are
SD-Turbo, LCM and the inpainting models.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from deployments.diffusion.chunks import CLIP_TOKENS, MAX_CHUNKS, Chunk, Chunker, Tokens
from deployments.diffusion.families.family import Conditioning, Side
from deployments.diffusion.families.latent_rgb import STABLE_DIFFUSION
from deployments.diffusion.families.unet import UNetFamily
from deployments.diffusion.families.weighted import weighted


class StableDiffusion(UNetFamily):
    """One text encoder, UNet, autoencoder."""

    name = "stable-diffusion"
    pipeline_class = StableDiffusionPipeline
    pipeline_names = (
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "LatentConsistencyModelPipeline",
        "LatentConsistencyModelImg2ImgPipeline",
    )
    checkpoint_mark = "model.diffusion_model.input_blocks."
    checkpoint_parts = MappingProxyType(
        {
            "unet": ("model.diffusion_model.",),
            "vae": ("first_stage_model.",),
            "text_encoder": ("cond_stage_model.",),
        }
    )
    latent_map = STABLE_DIFFUSION
    default_guidance = 7.5

    def __init__(
        self, pipeline: Any, device: torch.device, dtype: torch.dtype, **more: Any
    ) -> None:
        super().__init__(pipeline, device, dtype, **more)
        self._chunker = Chunker(pipeline.tokenizer)
        self.max_chunks = MAX_CHUNKS if self._chunker.length == CLIP_TOKENS else 1

    def tokenize(
        self, prompt: str, *, weighting: bool, max_chunks: int, side: Side = "prompt"
    ) -> Tokens:
        """Chunks of 75 tokens, or of what the model's tokenizer takes."""
        return self._chunker.tokens(prompt, weighting=weighting, max_chunks=max_chunks)

    def encode_prompts(self, chunks: Sequence[Chunk]) -> Conditioning:
        """One lane per chunk: {"encoder_hidden_states": (n, tokens, width)}."""
        ids = torch.tensor([chunk.ids for chunk in chunks], device=self.device)
        weights = torch.tensor([chunk.weights for chunk in chunks], device=self.device)
        return {"encoder_hidden_states": weighted(self.pipeline.text_encoder(ids)[0], weights)}
