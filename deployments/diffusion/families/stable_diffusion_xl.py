"""Stable Diffusion XL without its refiner, SDXL-Turbo, and their inpainting models.

Two CLIP encoders read the same tokens; the UNet is also told the pooled text and the picture's size
(micro-conditioning).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline

from deployments.diffusion.chunks import CLIP_TOKENS, MAX_CHUNKS, Chunk, Tokens, TwinChunker
from deployments.diffusion.families.clip import Penultimate, seconds
from deployments.diffusion.families.family import Conditioning, Side, Size
from deployments.diffusion.families.latent_rgb import STABLE_DIFFUSION_XL
from deployments.diffusion.families.unet import UNetFamily


class StableDiffusionXL(UNetFamily):
    """Two text encoders, UNet, autoencoder."""

    name = "stable-diffusion-xl"
    pipeline_class = StableDiffusionXLPipeline
    pipeline_names = (
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
    )
    checkpoint_mark = "model.diffusion_model.label_emb."
    checkpoint_parts = MappingProxyType(
        {
            "unet": ("model.diffusion_model.",),
            "vae": ("first_stage_model.",),
            "text_encoder": ("conditioner.embedders.0.",),
            "text_encoder_2": ("conditioner.embedders.1.",),
        }
    )
    vae_overflows = True
    latent_map = STABLE_DIFFUSION_XL
    default_guidance = 5.0

    def __init__(
        self, pipeline: Any, device: torch.device, dtype: torch.dtype, **more: Any
    ) -> None:
        super().__init__(pipeline, device, dtype, **more)
        if pipeline.text_encoder is None:
            raise ValueError(
                "the model has no first text encoder, as SDXL's refiner: the refiner is not "
                "served here; take the base model"
            )
        self._chunker = TwinChunker(pipeline.tokenizer, pipeline.tokenizer_2)
        self.max_chunks = MAX_CHUNKS if self._chunker.length == CLIP_TOKENS else 1
        # Its trainers count the UNet's blocks otherwise than diffusers.
        self.adapter_reading = {"unet_config": self.denoiser.config}
        self._zeroes_no_text: bool = pipeline.config.force_zeros_for_empty_prompt

    def tokenize(
        self, prompt: str, *, weighting: bool, max_chunks: int, side: Side = "prompt"
    ) -> Tokens:
        """Chunks of 75 tokens, or of what the model's tokenizer takes.

        Most models were trained with zeros in the place of a negative prompt that is empty.
        """
        tokens = self._chunker.tokens(prompt, weighting=weighting, max_chunks=max_chunks)
        if side == "prompt" or prompt or not self._zeroes_no_text:
            return tokens
        return replace(tokens, chunks=tuple(chunk.silent() for chunk in tokens.chunks))

    def encode_prompts(self, chunks: Sequence[Chunk]) -> Conditioning:
        """{"encoder_hidden_states": (n, tokens, both widths), "text_embeds": (n, pooled)}."""
        first = Penultimate.of(self.pipeline.text_encoder, chunks, self.device)
        second = Penultimate.of(self.pipeline.text_encoder_2, seconds(chunks), self.device)
        is_read = torch.tensor([any(chunk.weights) for chunk in chunks], device=self.device)
        return {
            "encoder_hidden_states": torch.cat([first.states, second.states], dim=-1),
            "text_embeds": second.pooled * is_read[:, None],
        }

    def told(self, size: Size, guidance_scale: float) -> Conditioning:
        """The size for which the picture was made, where it was cut, and its size now."""
        width, height = size
        ids = torch.tensor([[height, width, 0, 0, height, width]], device=self.device)
        return {**super().told(size, guidance_scale), "time_ids": ids.float()}

    def _added(self, conditioning: Conditioning) -> Mapping[str, torch.Tensor]:
        return {name: conditioning[name] for name in ("text_embeds", "time_ids")}
