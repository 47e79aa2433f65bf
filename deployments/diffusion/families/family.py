"""What a model family knows how to do, and what the families share. It knows no rows, no queue and
no sampler. A family is a loaded diffusers pipeline, of which only the parts are used.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch

from deployments.diffusion.adapters.slots import Slots
from deployments.diffusion.chunks import Chunk, Tokens
from deployments.diffusion.families.autoencoder import Autoencoder
from deployments.diffusion.families.latent_rgb import Known, LatentRgb
from deployments.diffusion.families.tiling import Tiling
from deployments.diffusion.samplers import SAMPLERS, Sampler
from deployments.diffusion.sampling import FlowShift

Conditioning = Mapping[str, torch.Tensor]
"""What the denoiser is told besides latents and time; every tensor's first axis is the lane."""

SEEN_IMAGE = "seen_image"
"""The conditioning of a denoiser that sees the picture which it repaints: (lanes, 1 + C, h, w), the
mask and the latents of what the mask leaves. Text encoders give none; the encoder adds it."""

Size = tuple[int, int]
"""Width and height in pixels."""

Side = Literal["prompt", "negative"]
"""Which of a row's two texts is read."""


class Family(ABC):
    """One loaded model. Tensors in and out are float32 on the model's device."""

    name: ClassVar[str]
    pipeline_class: ClassVar[Any]
    """diffusers' class, which loads its folders."""
    pipeline_names: ClassVar[tuple[str, ...]]
    """What the `_class_name` of such a folder may be."""
    checkpoint_mark: ClassVar[str]
    """What some key of its single-file checkpoints contains, and of no family after it."""
    checkpoint_parts: ClassVar[Mapping[str, tuple[str, ...]]]
    """The pipeline's parts with weights -> what their keys may begin with in such a checkpoint."""
    t5_parts: ClassVar[tuple[str, ...]] = ()
    """Parts of the pipeline that may be left out, by the setting `t5`."""
    vae_overflows: ClassVar[bool] = False
    """Whether the autoencoder may need more range than float16 has; its config says."""
    latent_map: ClassVar[Known]
    """For previews, where the model's folder has no map of its own."""
    samplers: ClassVar[Mapping[str, Sampler]] = SAMPLERS
    """By the names that requests may ask for."""

    default_guidance: float
    default_steps: int = 20
    max_chunks: int = 1
    """Chunks of text that it reads; where it is 1, longer prompts are cut off."""
    has_second_lane: bool = True
    """Whether guidance takes a lane without the prompt. Distilled models are told the scale, or
    know none; they read no negative prompt."""
    adapter_reading: Mapping[str, Any] = MappingProxyType({})
    """What diffusers wants to know besides to read an adapter's file."""
    sees_image: bool = False
    """Whether the denoiser sees mask and masked image as more channels (inpainting models)."""

    def __init__(
        self,
        pipeline: Any,
        device: torch.device,
        dtype: torch.dtype,
        *,
        folder: Path | None = None,
        channels_last: bool = True,
        tiled: bool = False,
        preview_vae: Any = None,
    ) -> None:
        """`pipeline` is on the device already, or moves its parts there itself (offload).

        `folder` may hold the model's own latent_rgb.json. `channels_last` is how its weights lie.
        `tiled` decodes and encodes what is larger than the native square in tiles of it.
        `preview_vae` decodes previews in the latent map's place.
        """
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline, self.device, self._dtype = pipeline, device, dtype
        # Convolutions over 16 lanes take 93 ms and not 112 in this layout (embedded model, CPU).
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.slots = Slots(pipeline.components, self.denoiser, device)
        """Where adapters act."""
        self.latent_factor: int = pipeline.vae_scale_factor
        """Pixels per latent cell along each side."""
        tiling = Tiling(self.native_side // self.latent_factor) if tiled else None
        self._autoencoder = Autoencoder(pipeline.vae, self._memory_format, tiling)
        self._preview_decoder = (
            Autoencoder(preview_vae, self._memory_format, tiling) if preview_vae else None
        )
        self.latent_channels = self._autoencoder.latent_channels
        self.encoder_is_random = self._autoencoder.is_random
        """Whether encoding an image draws from the row's generator (AutoencoderKL does)."""
        latent_rgb = LatentRgb.of_model(folder, self.latent_channels, self.latent_map)
        self._latent_rgb = latent_rgb.to(device)
        self.scheduler_config: Mapping[str, Any] = dict(pipeline.scheduler.config)
        self.scheduler_name = type(pipeline.scheduler).__name__

    @property
    @abstractmethod
    def denoiser(self) -> Any:
        """The UNet or transformer."""

    @property
    @abstractmethod
    def native_side(self) -> int:
        """Pixels along each side of the square the model was trained at."""

    @property
    def lanes_of_row(self) -> int:
        """Lanes that a guided row takes."""
        return 2 if self.has_second_lane else 1

    @property
    def size_multiple(self) -> int:
        """Width and height are multiples of this many pixels."""
        return self.latent_factor

    @abstractmethod
    def tokenize(
        self, prompt: str, *, weighting: bool, max_chunks: int, side: Side = "prompt"
    ) -> Tokens:
        """A prompt in chunks. For one thread at a time, since tokenizers are not thread-safe."""

    @abstractmethod
    def encode_prompts(self, chunks: Sequence[Chunk]) -> Conditioning:
        """One lane per chunk, each read by itself."""

    def join_chunks(self, chunks: Sequence[Conditioning]) -> Conditioning:
        """One lane each, the chunks of one prompt in order -> the prompt's lane.

        Along the tokens, one after the other; what a prompt has once is its first chunk's.
        """
        states = [chunk["encoder_hidden_states"] for chunk in chunks]
        return {**chunks[0], "encoder_hidden_states": torch.cat(states, dim=1)}

    def told(self, size: Size, guidance_scale: float) -> Conditioning:
        """One lane: what the denoiser is told of a row besides its text."""
        return {}

    def flow_shift(self, size: Size) -> FlowShift | None:
        """How noise levels are spaced; None unless the model was trained by flow matching."""
        return None

    @abstractmethod
    def denoise(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """(lanes, C, h, w) scaled latents, (lanes,) timesteps -> the model's output, same shape."""

    def encode_images(self, pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """(n, 3, H, W) in -1..1 and (n, C, h, w) normal noise -> (n, C, h, w) latents."""
        return self._autoencoder.encode(pixels, noise)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, C, h, w) latents -> (n, H, W, 3) uint8 pixels, still on the device."""
        return self._autoencoder.decode(latents)

    def preview(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, C, h, w) latents -> (n, H', W', 3) uint8 pixels, rough and most often small, on the
        device."""
        if self._preview_decoder is not None:
            return self._preview_decoder.decode(latents)
        return self._latent_rgb.pixels(latents)

    def adapter_state(self, path: Path) -> tuple[Mapping[str, Any], ...]:
        """An adapter's file in diffusers' names: tensors, in most families alphas, metadata."""
        state: tuple[Mapping[str, Any], ...] = self.pipeline.lora_state_dict(
            str(path), return_lora_metadata=True, use_safetensors=True, **self.adapter_reading
        )
        return state

    def compile_blocks(self, mode: str) -> None:
        """Compiles the blocks that the denoiser repeats, once for all; shapes are static."""
        self.denoiser.compile_repeated_blocks(mode=mode, dynamic=False)
