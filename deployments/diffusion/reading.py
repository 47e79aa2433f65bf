"""From a model's files to a diffusers pipeline in memory, part by part."""

import inspect
import logging
import time
from typing import Any

import torch

from deployments.diffusion.model_files import UNUSED, ModelFiles, Part
from deployments.diffusion.settings import DiffusionSettings

logger = logging.getLogger(__name__)


def read_pipeline(files: ModelFiles, settings: DiffusionSettings) -> Any:
    """The pipeline on the CPU, in `settings.dtype`; a log line for each part."""
    dtype = getattr(torch, settings.dtype)
    kind = files.family.pipeline_class
    known = inspect.signature(kind.__init__).parameters
    parts: dict[str, Any] = {name: None for name in UNUSED if name in known}
    if "requires_safety_checker" in known:
        parts["requires_safety_checker"] = False
    if "text_encoder_3" in known and "text_encoder_3" not in {part.name for part in files.parts}:
        parts |= {"text_encoder_3": None, "tokenizer_3": None}
    having = [part for part in files.parts if part.files]
    for number, part in enumerate(having, start=1):
        parts[part.name] = _read(part, dtype, settings, f"{number} of {len(having)}")
    if files.checkpoint is None:
        pipeline = kind.from_pretrained(files.folder, dtype=dtype, **parts)
    else:
        pipeline = _read_checkpoint(files, dtype, settings, parts)
    if pipeline.vae.config.get("force_upcast") and dtype == torch.float16:
        pipeline.vae.to(torch.float32)  # SDXL's overflows in float16
    return pipeline


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
    pipeline = files.family.pipeline_class.from_single_file(
        str(files.checkpoint),
        config=str(files.folder),
        dtype=dtype,
        local_files_only=True,
        **parts,
    )
    logger.info(
        "model %s: read %s, %.2f GiB in %.1f s", settings.id, files.checkpoint.name,
        files.checkpoint.stat().st_size / 2**30, time.monotonic() - begun_s,
    )  # fmt: skip
    return pipeline
