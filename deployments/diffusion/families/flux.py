"""FLUX.1 dev and schnell: a transformer trained by flow matching, CLIP for the gist and T5.

They are distilled: guidance takes no second lane. dev is told its scale, schnell knows none. The
transformer sees the latents packed, two by two cells a token; the engine does not.
"""

from collections.abc import Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import torch
from diffusers import FluxPipeline

from deployments.diffusion.chunks import Chunk, Chunker, Tokens
from deployments.diffusion.families.family import Conditioning, Side, Size
from deployments.diffusion.families.flow import size_shift
from deployments.diffusion.families.latent_rgb import FLUX
from deployments.diffusion.families.t5 import TextReader, t5_states
from deployments.diffusion.families.transformer import TransformerFamily
from deployments.diffusion.sampling import FlowShift

DEV_TOKENS, SCHNELL_TOKENS = 512, 256
"""What the two were trained to read of T5."""


class Flux(TransformerFamily):
    """Two text encoders, transformer, autoencoder."""

    name = "flux"
    pipeline_class = FluxPipeline
    pipeline_names = ("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline")
    checkpoint_mark = "double_blocks.0."
    checkpoint_parts = MappingProxyType(
        {
            "transformer": (
                *("double_blocks.", "single_blocks.", "img_in.", "txt_in.", "time_in."),
                *("vector_in.", "guidance_in.", "final_layer.", "model.diffusion_model."),
            ),
            "vae": ("vae.", "first_stage_model."),
            "text_encoder": ("text_encoders.clip_l.",),
            "text_encoder_2": ("text_encoders.t5xxl.",),
        }
    )
    latent_map = FLUX
    has_second_lane = False

    def __init__(
        self, pipeline: Any, device: torch.device, dtype: torch.dtype, **more: Any
    ) -> None:
        super().__init__(pipeline, device, dtype, **more)
        self._is_told_guidance: bool = self.denoiser.config.guidance_embeds
        tokens = DEV_TOKENS if self._is_told_guidance else SCHNELL_TOKENS
        self._reader = TextReader(Chunker(pipeline.tokenizer), pipeline.tokenizer_2, tokens)
        self._text_ids = torch.zeros(tokens, 3, device=device)
        self._image_ids = lru_cache(16)(self._made_image_ids)
        self.default_guidance = 3.5 if self._is_told_guidance else 0.0
        self.default_steps = 28 if self._is_told_guidance else 4
        self.adapter_reading = {"return_alphas": True}

    @property
    def native_side(self) -> int:
        """By the pipeline, since the transformer's config has none."""
        return int(self.pipeline.default_sample_size) * self.latent_factor

    @property
    def size_multiple(self) -> int:
        """Two latent cells."""
        return 2 * self.latent_factor

    def tokenize(
        self, prompt: str, *, weighting: bool, max_chunks: int = 1, side: Side = "prompt"
    ) -> Tokens:
        """One chunk: CLIP reads its first 75 tokens, T5 512 of dev and 256 of schnell."""
        return self._reader.tokens(prompt, weighting=weighting)

    def encode_prompts(self, chunks: Sequence[Chunk]) -> Conditioning:
        """T5's states, and CLIP's pooled text."""
        ids = torch.tensor([chunk.ids for chunk in chunks], device=self.device)
        t5_ids = [chunk.t5_ids for chunk in chunks]
        return {
            "encoder_hidden_states": t5_states(self.pipeline.text_encoder_2, t5_ids, self.device),
            "pooled_projections": self.pipeline.text_encoder(ids).pooler_output,
        }

    def told(self, size: Size, guidance_scale: float) -> Conditioning:
        """The guidance scale, to a dev."""
        if not self._is_told_guidance:
            return {}
        return {"guidance": torch.tensor([guidance_scale], device=self.device)}

    def flow_shift(self, size: Size) -> FlowShift:
        """Of dev it depends on the size."""
        width, height = size
        tokens = (width // self.size_multiple) * (height // self.size_multiple)
        return FlowShift(size_shift(self.scheduler_config, tokens, max_shift=1.15), even=True)

    def denoise(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """The transformer's output, in float32."""
        height, width = latents.shape[-2:]
        output = self.denoiser(
            hidden_states=packed(latents.to(self._dtype)),
            timestep=timesteps / 1000,
            guidance=conditioning.get("guidance"),
            encoder_hidden_states=conditioning["encoder_hidden_states"],
            pooled_projections=conditioning["pooled_projections"],
            txt_ids=self._text_ids,
            img_ids=self._image_ids(height // 2, width // 2),
            return_dict=False,
        )[0]
        return unpacked(output.float(), height, width)

    def _made_image_ids(self, rows: int, columns: int) -> torch.Tensor:
        """(rows * columns, 3): nothing, the row and the column of every token."""
        ids = torch.zeros(rows, columns, 3, device=self.device)
        ids[..., 1] = torch.arange(rows, device=self.device)[:, None]
        ids[..., 2] = torch.arange(columns, device=self.device)
        return ids.flatten(0, 1)


def packed(latents: torch.Tensor) -> torch.Tensor:
    """(n, C, h, w) -> (n, h / 2 * w / 2, 4 * C)"""
    n, channels, height, width = latents.shape
    squares = latents.view(n, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(n, (height // 2) * (width // 2), channels * 4)


def unpacked(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(n, h / 2 * w / 2, 4 * C) -> (n, C, h, w)"""
    n, _, channels = tokens.shape
    squares = tokens.view(n, height // 2, width // 2, channels // 4, 2, 2)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(n, channels // 4, height, width)
