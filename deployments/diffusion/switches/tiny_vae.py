"""`tiny_vae`: a small autoencoder for the same latents, which decodes in a fraction of the time."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny

from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.weights import weights_of


def read_tiny_vae(settings: DiffusionSettings, pipeline: Any, dtype: torch.dtype) -> Any:
    """The AutoencoderTiny on the CPU. Raises ValueError unless it is one, whole, and its latents
    are the pipeline's."""
    folder = Path(settings.tiny_vae).expanduser()
    config = folder / "config.json"
    if not config.is_file():
        raise _wrong(settings, "there is no config.json in it; give a folder of an AutoencoderTiny")
    kind = json.loads(config.read_text()).get("_class_name")
    if kind != "AutoencoderTiny":
        raise _wrong(settings, f"it has a {kind}; give a folder of an AutoencoderTiny")
    files, variant = weights_of(folder, variant=settings.variant, pickles=settings.allow_pickle)
    if not files:
        raise _wrong(
            settings,
            "there are no weights in it as safetensors; complete the folder, or for .bin files, "
            "which can run code as they are read, set allow_pickle: true",
        )
    tiny = AutoencoderTiny.from_pretrained(
        folder,
        dtype=dtype,
        variant=variant,
        use_safetensors=files[0].suffix == ".safetensors",
    )
    latents = (tiny.config.latent_channels, 2 ** (len(tiny.config.decoder_block_out_channels) - 1))
    wanted = (pipeline.vae.config.latent_channels, pipeline.vae_scale_factor)
    if latents != wanted:
        raise _wrong(
            settings,
            f"its latents have {latents[0]} channels and are {latents[1]} times smaller than the "
            f"picture, and the model's have {wanted[0]} and are {wanted[1]} times smaller; give "
            "one that was made for this model",
        )
    return tiny


def _wrong(settings: DiffusionSettings, what: str) -> ValueError:
    return ValueError(f"model {settings.id}: tiny_vae is {settings.tiny_vae!r}: {what}")
