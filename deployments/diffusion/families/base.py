"""What the families share: a loaded diffusers pipeline, of which only the parts are used."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from deployments.diffusion.chunks import Chunk, Tokens
from deployments.diffusion.families.autoencoder import Autoencoder
from deployments.diffusion.families.family import Conditioning, Side, Size
from deployments.diffusion.families.latent_rgb import Known, LatentRgb
from deployments.diffusion.samplers import SAMPLERS, Sampler
from deployments.diffusion.sampling import FlowShift

NCHW, NHWC = torch.contiguous_format, torch.channels_last


class PipelineFamily(ABC):
    """The parts of one pipeline on a device."""

    name: ClassVar[str]
    pipeline_class: ClassVar[Any]
    """diffusers' class, which loads its folders."""
    pipeline_names: ClassVar[tuple[str, ...]]
    """What the `_class_name` of such a folder may be."""
    checkpoint_mark: ClassVar[str]
    """What some key of its single-file checkpoints contains, and no other family's."""
    latent_map: ClassVar[Known]
    samplers: Mapping[str, Sampler] = SAMPLERS
    max_chunks: int = 1
    has_second_lane: bool = True
    sees_image: bool = False
    default_guidance: float
    default_steps: int = 20

    def __init__(
        self, pipeline: Any, device: torch.device, dtype: torch.dtype, *, channels_last: bool = True
    ) -> None:
        """`pipeline` is on the device already, or moves its parts there itself (offload)."""
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline, self.device, self._dtype = pipeline, device, dtype
        # Convolutions over 16 lanes take 93 ms and not 112 in this layout (embedded model, CPU).
        self._memory_format = NHWC if channels_last else NCHW
        self._autoencoder = Autoencoder(pipeline.vae, self._memory_format)
        self.latent_channels = self._autoencoder.latent_channels
        self.latent_factor: int = pipeline.vae_scale_factor
        self.encoder_is_random = self._autoencoder.is_random
        own = LatentRgb.of_model(
            Path(pipeline.name_or_path), self.latent_channels, self.latent_map
        )
        self._latent_rgb = own.to(device)
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
    def size_multiple(self) -> int:
        """Width and height are multiples of this many pixels."""
        return self.latent_factor

    @abstractmethod
    def tokenize(
        self, prompt: str, *, weighting: bool, max_chunks: int, side: Side = "prompt"
    ) -> Tokens:
        """A prompt in chunks."""

    @abstractmethod
    def encode_prompts(self, chunks: Sequence[Chunk]) -> Conditioning:
        """One lane per chunk."""

    @abstractmethod
    def denoise(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """The model's output."""

    def join_chunks(self, chunks: Sequence[Conditioning]) -> Conditioning:
        """Along the tokens, one after the other; what a prompt has once is its first chunk's."""
        states = [chunk["encoder_hidden_states"] for chunk in chunks]
        return {**chunks[0], "encoder_hidden_states": torch.cat(states, dim=1)}

    def told(self, size: Size, guidance_scale: float) -> Conditioning:
        """Nothing besides the text."""
        return {}

    def flow_shift(self, size: Size) -> FlowShift | None:
        """Not trained by flow matching."""
        return None

    def encode_images(self, pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Pixels to latents; the posterior is sampled with the row's own noise."""
        return self._autoencoder.encode(pixels, noise)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to uint8 pixels."""
        return self._autoencoder.decode(latents)

    def preview(self, latents: torch.Tensor) -> torch.Tensor:
        """A linear guess of the decoded picture, one pixel or a small patch for each cell."""
        return self._latent_rgb.pixels(latents)

    def compile_blocks(self, mode: str) -> None:
        """Compiles the blocks that the denoiser repeats; shapes are static."""
        self.denoiser.compile_repeated_blocks(mode=mode, dynamic=False)
