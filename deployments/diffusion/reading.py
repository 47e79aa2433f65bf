"""From a model's files to a diffusers pipeline in memory, part by part."""

import inspect
import logging
import time
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.loaders.single_file_utils import SingleFileComponentError

from deployments.diffusion.model_files import UNUSED, ModelFiles
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.weights import Part

logger = logging.getLogger(__name__)


def read_pipeline(files: ModelFiles, settings: DiffusionSettings) -> Any:
    """The pipeline on the CPU, in `settings.dtype`; a log line for each part."""
    dtype = getattr(torch, settings.dtype)
    kind = files.family.pipeline_class
    parts = _nothing_for(files, inspect.signature(kind.__init__).parameters)
    having = [part for part in files.parts if part.files]
    for number, part in enumerate(having, start=1):
        parts[part.name] = _read(part, dtype, settings, f"{number} of {len(having)}")
    if files.checkpoint is None:
        safe = None if settings.allow_pickle else True
        pipeline = kind.from_pretrained(files.folder, dtype=dtype, use_safetensors=safe, **parts)
    else:
        pipeline = _read_checkpoint(files, dtype, settings, parts)
    upcast = files.family.vae_overflows and pipeline.vae.config.get("force_upcast")
    if upcast and dtype == torch.float16:
        pipeline.vae.to(torch.float32)
    return pipeline


def _nothing_for(files: ModelFiles, known: Mapping[str, Any]) -> dict[str, Any]:
    """The parts that the pipeline could have and that are left out."""
    parts: dict[str, Any] = {name: None for name in UNUSED if name in known}
    if "requires_safety_checker" in known:
        parts["requires_safety_checker"] = False
    if not {part.name for part in files.parts} & set(files.family.t5_parts):
        parts |= dict.fromkeys(files.family.t5_parts)
    return parts


def _read(part: Part, dtype: torch.dtype, settings: DiffusionSettings, number: str) -> Any:
    begun_s = time.monotonic()
    model = part.kind.from_pretrained(
        part.files[0].parent,
        dtype=dtype,
        variant=part.variant,
        use_safetensors=part.files[0].suffix == ".safetensors",
    )
    logger.info(
        "model %s: read %s (%s), %.2f GiB in %.1f s", settings.id, part.name, number,
        sum(path.stat().st_size for path in part.files) / 2**30, time.monotonic() - begun_s,
    )  # fmt: skip
    return model


def _read_checkpoint(
    files: ModelFiles, dtype: torch.dtype, settings: DiffusionSettings, parts: dict[str, Any]
) -> Any:
    assert files.checkpoint is not None
    begun_s = time.monotonic()
    parts.pop("requires_safety_checker", None)  # from_single_file has its own word for it
    try:
        pipeline = files.family.pipeline_class.from_single_file(
            str(files.checkpoint),
            config=str(files.folder),
            dtype=dtype,
            local_files_only=True,
            **parts,
        )
    except (SingleFileComponentError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"model {settings.id}: {files.checkpoint} does not fit the configs in source_config "
            f"{files.folder} ({error}); give the folder of the model that it was made from"
        ) from error
    logger.info(
        "model %s: read %s, %.2f GiB in %.1f s", settings.id, files.checkpoint.name,
        files.checkpoint.stat().st_size / 2**30, time.monotonic() - begun_s,
    )  # fmt: skip
    return pipeline
