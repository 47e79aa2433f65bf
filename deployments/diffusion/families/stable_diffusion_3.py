"""Stable Diffusion 3 and 3.5: a transformer trained by flow matching, three text encoders.

The third, T5, may be missing: its part of the text is then zeros.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline

from deployments.diffusion.chunks import Chunk, Tokens, TwinChunker
from deployments.diffusion.families.clip import Penultimate, seconds
from deployments.diffusion.families.family import Conditioning, Side, Size
from deployments.diffusion.families.flow import size_shift
from deployments.diffusion.families.latent_rgb import STABLE_DIFFUSION_3
from deployments.diffusion.families.t5 import TextReader, t5_states
from deployments.diffusion.families.transformer import TransformerFamily
from deployments.diffusion.sampling import FlowShift

T5_TOKENS = 256
"""diffusers' default; CLIP's 77 come before them."""


class StableDiffusion3(TransformerFamily):
    """Up to three text encoders, transformer, autoencoder."""

    name = "stable-diffusion-3"
    pipeline_class = StableDiffusion3Pipeline
    pipeline_names = (
        "StableDiffusion3Pipeline",
        "StableDiffusion3Img2ImgPipeline",
        "StableDiffusion3InpaintPipeline",
    )
    checkpoint_mark = "joint_blocks.0."
    checkpoint_parts = MappingProxyType(
        {
            "transformer": ("model.diffusion_model.",),
            "vae": ("first_stage_model.",),
            "text_encoder": ("text_encoders.clip_l.",),
            "text_encoder_2": ("text_encoders.clip_g.",),
            "text_encoder_3": ("text_encoders.t5xxl.",),
        }
    )
    t5_parts = ("text_encoder_3", "tokenizer_3")
    latent_map = STABLE_DIFFUSION_3
    default_guidance = 7.0
    default_steps = 28

    def __init__(
        self, pipeline: Any, device: torch.device, dtype: torch.dtype, **more: Any
    ) -> None:
        super().__init__(pipeline, device, dtype, **more)
        clip = TwinChunker(pipeline.tokenizer, pipeline.tokenizer_2)
        self._reader = TextReader(clip, pipeline.tokenizer_3, T5_TOKENS)

    @property
    def native_side(self) -> int:
        """By the transformer's config."""
        return int(self.denoiser.config.sample_size) * self.latent_factor

    @property
    def size_multiple(self) -> int:
        """The transformer takes patches of latent cells."""
        return self.latent_factor * int(self.denoiser.config.patch_size)

    def tokenize(
        self, prompt: str, *, weighting: bool, max_chunks: int = 1, side: Side = "prompt"
    ) -> Tokens:
        """One chunk: CLIP reads its first 75 tokens, T5 its first 256."""
        return self._reader.tokens(prompt, weighting=weighting)

    def encode_prompts(self, chunks: Sequence[Chunk]) -> Conditioning:
        """CLIP's states filled up to T5's width, then T5's; and the pooled text of both CLIPs."""
        first = Penultimate.of(self.pipeline.text_encoder, chunks, self.device)
        second = Penultimate.of(self.pipeline.text_encoder_2, seconds(chunks), self.device)
        clip = torch.cat([first.states, second.states], dim=-1)
        width = int(self.denoiser.config.joint_attention_dim)
        clip = torch.nn.functional.pad(clip, (0, width - clip.shape[-1]))
        return {
            "encoder_hidden_states": torch.cat([clip, self._t5_states(chunks, clip)], dim=1),
            "pooled_projections": torch.cat([first.pooled, second.pooled], dim=-1),
        }

    def flow_shift(self, size: Size) -> FlowShift:
        """The config's shift; of some models it depends on the size."""
        width, height = size
        tokens = (width // self.size_multiple) * (height // self.size_multiple)
        return FlowShift(size_shift(self.scheduler_config, tokens, max_shift=1.16))

    def denoise(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """The transformer's output, in float32."""
        output: torch.Tensor = self.denoiser(
            hidden_states=latents.to(self._dtype),
            timestep=timesteps,
            encoder_hidden_states=conditioning["encoder_hidden_states"],
            pooled_projections=conditioning["pooled_projections"],
            return_dict=False,
        )[0]
        return output.float()

    def _t5_states(self, chunks: Sequence[Chunk], like: torch.Tensor) -> torch.Tensor:
        encoder = self.pipeline.text_encoder_3
        if encoder is None:
            return like.new_zeros(len(chunks), T5_TOKENS, like.shape[-1])
        return t5_states(encoder, [chunk.t5_ids for chunk in chunks], self.device)
