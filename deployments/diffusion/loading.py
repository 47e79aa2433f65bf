"""From settings to a loaded, warm engine."""

import logging
import os
import time
from pathlib import Path

import torch

from deployments.diffusion.batch import Denoise
from deployments.diffusion.compiled import bucketed
from deployments.diffusion.engine import Engine
from deployments.diffusion.families.family import Family
from deployments.diffusion.families.stable_diffusion import StableDiffusion
from deployments.diffusion.sampling import SCHEDULERS
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.warmup import warm_up
from deployments.requests import ModelCard

logger = logging.getLogger(__name__)

EMBEDDED = Path(__file__).parent / "embedded"


def load_engine(settings: DiffusionSettings) -> tuple[Engine, ModelCard]:
    """Loads, compiles and warms the model on the calling thread, which must then run the engine."""
    begun_s = time.monotonic()
    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    family = _load_family(settings)
    card = _card(family, settings)
    logger.info("model %s loaded in %.1f s", settings.id, time.monotonic() - begun_s)
    denoise: Denoise = family.denoise
    if settings.compile_mode is not None:
        family.compile(settings.compile_mode)
        denoise = bucketed(family.denoise, settings.lane_buckets)
    lane_call_s = warm_up(family, denoise, settings.lane_buckets)
    logger.info("model %s warm after %.1f s", settings.id, time.monotonic() - begun_s)
    return Engine(family, settings, denoise=denoise, lane_call_s=lane_call_s), card


def _load_family(settings: DiffusionSettings) -> Family:
    source = str(EMBEDDED) if settings.source == "embedded" else settings.source
    return StableDiffusion(source, _device(settings), getattr(torch, settings.dtype))


def _device(settings: DiffusionSettings) -> torch.device:
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise ValueError(
            f"model {settings.id}: device is 'cuda' but torch {torch.__version__} sees no GPU; "
            "give the replica a GPU (num_gpus above 0) or set device: cpu"
        )
    return torch.device("cuda" if available and settings.device != "cpu" else "cpu")


def _card(family: Family, settings: DiffusionSettings) -> ModelCard:
    scheduler = settings.default_scheduler or family.scheduler_name
    if scheduler not in SCHEDULERS:
        raise ValueError(
            f"model {settings.id}: default_scheduler is {scheduler!r}; "
            f"use one of {', '.join(SCHEDULERS)}"
        )
    native = family.native_side
    # A compiled step knows the shapes it was warmed with; another would compile inside a request.
    any_size = settings.compile_mode is None
    return ModelCard(
        id=settings.id,
        created=int(time.time()),
        family=family.name,
        default_width=native,
        default_height=native,
        size_multiple=family.latent_factor,
        min_side=native // 2 if any_size else native,
        max_side=native * 2 if any_size else native,
        latent_factor=family.latent_factor,
        schedulers=tuple(SCHEDULERS),
        default_scheduler=scheduler,
        default_steps=settings.default_steps,
        max_steps=settings.max_steps,
        default_guidance=settings.default_guidance,
        max_guidance=50.0,
        default_strength=settings.default_strength,
        max_images=settings.max_images,
    )
