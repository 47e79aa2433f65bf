"""diffusers' own pipelines, as the baselines call them: whole calls, one key each."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from numpy.typing import NDArray

from .spans import ModelClock
from .trace import BLOCK, GUIDANCE, Form, Job, call_key, mixed_trace, plain_trace

WARM_STEPS = 2


class Pipeline:
    """One loaded pipeline. It keeps a scheduler, so that two calls at once spoil each other."""

    def __init__(
        self,
        source: str,
        device: torch.device,
        dtype: torch.dtype,
        compile_mode: str | None,
        clock: ModelClock,
    ) -> None:
        load: Any = StableDiffusionPipeline.from_pretrained
        self._text_to_image = load(
            source, dtype=dtype, safety_checker=None, requires_safety_checker=False
        ).to(device)
        self._unet = self._text_to_image.unet.to(memory_format=torch.channels_last)
        self._text_to_image.vae.to(memory_format=torch.channels_last)
        self._forward = self._unet.forward
        self._compiled = compile_mode is not None
        if compile_mode is not None:
            torch._dynamo.config.recompile_limit = 64
            self._forward = torch.compile(self._forward, mode=compile_mode, dynamic=False)
        self._unet.forward = clock.timed(self._counted_forward)
        self._image_to_image = StableDiffusionImg2ImgPipeline(
            **self._text_to_image.components, requires_safety_checker=False
        )
        for pipeline in (self._text_to_image, self._image_to_image):
            pipeline.set_progress_bar_config(disable=True)
        self._scheduler_config = self._text_to_image.scheduler.config
        side = self._unet.config.sample_size * self._text_to_image.vae_scale_factor
        self.form = Form(side, type(self._text_to_image.scheduler).__name__)
        self._lock = threading.Lock()
        self.forwards = 0
        self.lanes = 0
        """Lanes of all those forwards."""

    @property
    def model_classes(self) -> tuple[type, type]:
        """Of the autoencoder and of the text encoder."""
        return type(self._text_to_image.vae), type(self._text_to_image.text_encoder)

    @torch.inference_mode()
    def warm_up(self, most_rows: int) -> None:
        """Runs every number of rows that a batch can have, guided and not, and an input image."""
        [job] = plain_trace(0, 1, self.form)
        for rows in range(1, most_rows + 1):
            for guidance in (GUIDANCE, 1.0):
                self._call([job] * rows, steps=WARM_STEPS, guidance=guidance)
        mixed = mixed_trace(0, BLOCK, self.form)
        self.pictures([next(job for job in mixed if job.image is not None)])

    @torch.inference_mode()
    def pictures(self, jobs: Sequence[Job]) -> NDArray[np.uint8]:
        """(n, height, width, 3), by one call; the jobs agree on their call key."""
        key = call_key(jobs[0])
        return self._call(jobs, steps=key.steps, guidance=key.guidance)

    def _call(self, jobs: Sequence[Job], *, steps: int, guidance: float) -> NDArray[np.uint8]:
        row = jobs[0].row
        from_image = _from_image(jobs)
        pipeline = self._image_to_image if from_image else self._text_to_image
        self._choose_scheduler(row.scheduler)
        pixels = pipeline(
            prompt=[job.row.prompt for job in jobs],
            negative_prompt=[job.row.negative_prompt for job in jobs],
            generator=[torch.Generator().manual_seed(job.row.seed) for job in jobs],
            num_inference_steps=steps,
            guidance_scale=guidance,
            output_type="pt",
            **from_image,
        ).images
        rounded: NDArray[np.uint8] = (
            pixels.float().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        )
        return rounded

    def _choose_scheduler(self, name: str) -> None:
        if type(self._text_to_image.scheduler).__name__ != name:
            scheduler = getattr(diffusers, name).from_config(self._scheduler_config)
            self._text_to_image.scheduler = self._image_to_image.scheduler = scheduler

    def _counted_forward(self, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            self.forwards += 1
            self.lanes += len(sample)
        if not self._compiled:
            return self._forward(sample, *args, **kwargs)
        torch.compiler.cudagraph_mark_step_begin()
        [output] = self._forward(sample, *args, **kwargs)
        return (output.clone(),)  # a CUDA graph writes the next call's output where this one's is


def _from_image(jobs: Sequence[Job]) -> dict[str, Any]:
    """What the image-to-image pipeline takes besides; pictures in 0..1."""
    images = [torch.from_numpy(job.image.pixels) for job in jobs if job.image is not None]
    if not images:
        return {}
    return {"image": torch.stack(images) / 2 + 0.5, "strength": jobs[0].row.strength}
