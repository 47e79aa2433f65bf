"""The denoiser of the families that have a UNet."""

from collections.abc import Mapping
from typing import Any

import torch

from deployments.diffusion.families.family import SEEN_IMAGE, Conditioning, Family, Size


class UNetFamily(Family):
    """Stable Diffusion and SDXL: what their UNets have in common."""

    def __init__(
        self, pipeline: Any, device: torch.device, dtype: torch.dtype, **more: Any
    ) -> None:
        super().__init__(pipeline, device, dtype, **more)
        config = self.denoiser.config
        self.sees_image = config.in_channels == 2 * self.latent_channels + 1
        # A model distilled to be told the scale (LCM) needs no second lane.
        self.has_second_lane = config.time_cond_proj_dim is None
        if not self.has_second_lane:
            self.default_steps, self.default_guidance = 4, 8.5
        if not self.sees_image and config.in_channels != self.latent_channels:
            raise ValueError(
                f"the UNet takes {config.in_channels} channels and the autoencoder makes "
                f"{self.latent_channels}: such a model is not served here; take one whose UNet "
                f"takes {self.latent_channels}, or {2 * self.latent_channels + 1} for inpainting"
            )

    @property
    def denoiser(self) -> Any:
        """The UNet."""
        return self.pipeline.unet

    @property
    def native_side(self) -> int:
        """By the UNet's config."""
        return int(self.denoiser.config.sample_size) * self.latent_factor

    def told(self, size: Size, guidance_scale: float) -> Conditioning:
        """The guidance scale, to a UNet that was distilled to be told it."""
        if self.has_second_lane:
            return {}
        embedded = self.pipeline.get_guidance_scale_embedding(
            torch.tensor([guidance_scale - 1]), self.denoiser.config.time_cond_proj_dim
        )
        return {"timestep_cond": embedded.to(self.device, self._dtype)}

    def denoise(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """The UNet's output, in float32."""
        if self.sees_image:
            latents = torch.cat([latents, conditioning[SEEN_IMAGE]], dim=1)
        output: torch.Tensor = self.denoiser(
            latents.to(self._dtype, memory_format=self._memory_format),
            timesteps,
            encoder_hidden_states=conditioning["encoder_hidden_states"],
            timestep_cond=conditioning.get("timestep_cond"),
            added_cond_kwargs=self._added(conditioning),
            return_dict=False,
        )[0]
        return output.float()

    def _added(self, conditioning: Conditioning) -> Mapping[str, torch.Tensor] | None:
        """What diffusers calls the added conditions."""
        return None
