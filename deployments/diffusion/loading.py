"""From settings to a loaded, warm engine."""

import logging
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import diffusers
import torch

from deployments.diffusion.adapters.room import prepare_adapters
from deployments.diffusion.batch import Layout
from deployments.diffusion.capacity import CapacityCurve, CurveKey, CurveStore
from deployments.diffusion.compiled import compiled_step
from deployments.diffusion.engine import Engine
from deployments.diffusion.families.family import Family, Size
from deployments.diffusion.families.paced import Paced, read_pace
from deployments.diffusion.memory import allowed_bytes, check_fits, limit_memory
from deployments.diffusion.model_files import find_model
from deployments.diffusion.reading import read_pipeline
from deployments.diffusion.settings import PACED, DiffusionSettings
from deployments.diffusion.switches.caching import step_cache
from deployments.diffusion.switches.combinations import SWITCHES
from deployments.diffusion.switches.requirements import check_requirements
from deployments.diffusion.switches.switchboard import switch_on
from deployments.diffusion.warmup import warm_up
from deployments.requests import AdapterUse, ModelCard

logger = logging.getLogger(__name__)


def load_engine(settings: DiffusionSettings) -> tuple[Engine, ModelCard]:
    """Loads, compiles and warms the model on the calling thread, which must then run the engine."""
    begun_s = time.monotonic()
    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    family = load_family(settings)
    logger.info("model %s loaded in %.1f s", settings.id, time.monotonic() - begun_s)
    return start_engine(family, settings)


def start_engine(family: Family, settings: DiffusionSettings) -> tuple[Engine, ModelCard]:
    """Compiles and warms a loaded model."""
    begun_s = time.monotonic()
    card = _card(family, settings)
    prepare_adapters(family, settings)
    layout = Layout(
        family.denoise,
        family.device,
        step=compiled_step(family, settings),
        buckets=settings.padded_to,
    )
    sizes = card.sizes or ((card.default_width, card.default_height),)
    curve = _curve(family, settings, layout, card.default_scheduler, sizes)
    # Measured without: a step in which all lanes use again what they have is not what a step costs.
    layout = replace(layout, cache=step_cache(family, settings))
    logger.info("model %s warm after %.1f s", settings.id, time.monotonic() - begun_s)
    return Engine(family, settings, layout=layout, curve=curve, unit=sizes[0]), card


def _curve(
    family: Family,
    settings: DiffusionSettings,
    layout: Layout,
    scheduler: str,
    sizes: Sequence[Size],
) -> CapacityCurve:
    """What this model costs on this device, as the fastest of all starts has measured it."""
    measured = warm_up(
        family,
        layout,
        scheduler=scheduler,
        sizes=sizes,
        buckets=settings.lane_buckets,
    )
    store = CurveStore(Path(settings.cache_folder).expanduser() / "curves")
    key = _curve_key(family, settings, sizes[0])
    curve = measured.fastest(store.load(key))
    store.save(key, curve)
    knee = curve.knee(settings.knee_margin)
    logger.info(
        "model %s: %d lanes at once, %.1f ms each", settings.id, knee,
        1e3 * curve.step_at(knee) / knee,
    )  # fmt: skip
    return curve


def _curve_key(family: Family, settings: DiffusionSettings, size: Size) -> CurveKey:
    device = family.device
    cores = f"{platform.machine()}, {os.cpu_count()} cores"
    switches = " ".join(f"{name}={getattr(settings, name)}" for name in SWITCHES)
    return CurveKey(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else cores,
        model=settings.id,
        source=settings.source,
        dtype=settings.dtype,
        size=size,
        mode=f"{settings.compile_mode} {settings.compile_scope} to {settings.padded_to} "
        f"threads {settings.threads} adapters {family.slots.room} {switches}",
        torch=str(torch.__version__),
        diffusers=diffusers.__version__,
        lane_buckets=settings.lane_buckets,
    )


FAST_ON_CPU: Mapping[str, Callable[[], bool]] = {
    "bfloat16": torch.ops.mkldnn._is_mkldnn_bf16_supported,
    "float16": torch.ops.mkldnn._is_mkldnn_fp16_supported,
}
"""Whether this CPU has instructions for it."""


def _warn_if_slow(settings: DiffusionSettings, device: torch.device) -> None:
    fast = FAST_ON_CPU.get(settings.dtype)
    if device.type == "cpu" and fast is not None and not fast():
        logger.warning(
            "model %s: this CPU has no instructions for dtype %s: the start and every step take "
            "many times as long as with dtype float32",
            settings.id, settings.dtype,
        )  # fmt: skip


def load_family(settings: DiffusionSettings) -> Family:
    """The model itself, on its device. Raises ValueError for what cannot be served."""
    if settings.source == PACED:
        return Paced(read_pace(Path(settings.pace).expanduser()))
    device = _device(settings)
    check_requirements(settings, device)
    _warn_if_slow(settings, device)
    files = find_model(settings)
    limit_memory(settings, device)
    check_fits(settings, device, files.weights(), *allowed_bytes(settings, device))
    pipeline = read_pipeline(files, settings)
    preview_vae = switch_on(pipeline, settings, device)
    try:
        family = files.family(
            pipeline,
            device,
            getattr(torch, settings.dtype),
            folder=files.folder,
            channels_last=settings.channels_last,
            tiled=settings.vae_tiling,
            preview_vae=preview_vae,
        )
    except ValueError as error:
        raise ValueError(f"model {settings.id}: {error}") from error
    if settings.max_lanes < family.lanes_of_row:
        raise ValueError(
            f"model {settings.id}: lane_buckets ends at {settings.max_lanes}: a guided row of it "
            f"needs {family.lanes_of_row} lanes"
        )
    return family


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
    if scheduler not in family.samplers:
        known = list(family.samplers)
        raise ValueError(
            f"model {settings.id}: default_scheduler is {scheduler!r}; use a familiar name or a "
            f"scheduler's class name, as {known[0]} or {known[-1]}; samplers.py lists them"
        )
    guidance = settings.default_guidance
    if guidance is None:
        guidance = family.default_guidance
    native = family.native_side
    sizes = _sizes(family, settings)
    # A compiled step knows the shapes it was warmed with; another would compile inside a request.
    any_size = settings.compile_mode is None
    usual = (native // 2, native * 2) if any_size else sizes[0]
    width, height = sizes[0]
    return ModelCard(
        id=settings.id,
        created=int(time.time()),
        family=family.name,
        default_width=width,
        default_height=height,
        size_multiple=family.size_multiple,
        min_side=min(*usual, *map(min, sizes)),
        max_side=max(*usual, *map(max, sizes)),
        sizes=() if any_size else sizes,
        latent_factor=family.latent_factor,
        schedulers=tuple(family.samplers),
        default_scheduler=scheduler,
        default_steps=settings.default_steps or min(family.default_steps, settings.max_steps),
        max_steps=settings.max_steps,
        default_guidance=guidance,
        max_guidance=50.0,
        default_strength=settings.default_strength,
        max_images=settings.max_images,
        adapters=tuple(AdapterUse(each.name, each.default_scale) for each in settings.adapters),
        max_adapters=settings.max_adapters if settings.adapters else 0,
    )


def _sizes(family: Family, settings: DiffusionSettings) -> tuple[Size, ...]:
    """The declared sizes, or the square that the model was trained at."""
    for width, height in settings.declared_sizes:
        if width % family.size_multiple or height % family.size_multiple:
            raise ValueError(
                f"model {settings.id}: sizes has {width}x{height}; both sides must be multiples "
                f"of {family.size_multiple}"
            )
    return settings.declared_sizes or ((family.native_side, family.native_side),)
