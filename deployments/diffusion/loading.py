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
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    family = _load_family(settings)
    logger.info("model %s loaded in %.1f s", settings.id, time.monotonic() - begun_s)
    denoise: Denoise = family.denoise
    if settings.compile != "off":
        family.compile(settings.compile)
        denoise = bucketed(family.denoise, settings.lane_buckets)
    lane_call_s = warm_up(family, denoise, settings.lane_buckets)
    logger.info("model %s warm after %.1f s", settings.id, time.monotonic() - begun_s)
    return (
        Engine(family, settings, denoise=denoise, lane_call_s=lane_call_s),
        _card(family, settings),
    )


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
    return ModelCard(
        id=settings.id,
        created=int(time.time()),
        family=family.name,
        default_width=family.native_side,
        default_height=family.native_side,
        size_multiple=family.latent_factor,
        min_side=family.native_side // 2,
        max_side=family.native_side * 2,
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
