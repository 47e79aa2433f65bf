"""The real graph with an engine that does nothing: measured is what stands around it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from unittest import mock

import numpy as np
from ray.serve import Application

from deployments.diffusion.settings import DiffusionSettings
from deployments.imaging.codecs import encode
from deployments.requests import ImageResult, ModelCard, PreparedImage, Progress, Row
from serve_app import app

from .serving import local_args


class NoopDiffusion:
    """Has the methods of `Diffusion` and answers every row with one PNG, made beforehand."""

    def __init__(self, settings: DiffusionSettings, grace_s: float) -> None:
        [(width, height)] = settings.declared_sizes
        self._width, self._height = width, height
        self._picture = picture(width, height)
        self._id, self._steps = settings.id, settings.default_steps or 20

    async def generate(self, row: Row, prepared: PreparedImage | None = None) -> ImageResult:
        """The picture."""
        return ImageResult(
            row_id=row.id,
            content=self._picture,
            output_format="png",
            width=self._width,
            height=self._height,
            seed=row.seed,
            model_calls=row.num_inference_steps,
            queue_wait_s=0.0,
            run_s=0.0,
        )

    async def generate_with_progress(
        self,
        row: Row,
        prepared: PreparedImage | None = None,
        *,
        preview_every: int = 0,
        previews: int = 0,
    ) -> AsyncGenerator[Progress | ImageResult]:
        """The picture, with nothing before it."""
        yield await self.generate(row, prepared)

    async def card(self) -> ModelCard:
        """A card that allows the one size."""
        return ModelCard(
            id=self._id,
            created=1_790_000_000,
            family="no-op",
            default_width=self._width,
            default_height=self._height,
            size_multiple=8,
            min_side=8,
            max_side=max(self._width, self._height),
            latent_factor=8,
            schedulers=("EulerDiscreteScheduler",),
            default_scheduler="EulerDiscreteScheduler",
            default_steps=self._steps,
            max_steps=150,
            default_guidance=7.5,
            max_guidance=30.0,
            default_strength=0.75,
            max_images=10,
        )


def graph(*, side: int, ingress_replicas: int) -> Application:
    """What `serve_app.app` wires for configs/local.yaml, with the no-op in the engine's place."""
    args = local_args()
    [model] = args["models"]
    model["settings"]["sizes"] = [f"{side}x{side}"]
    args["ingress"]["deployment"]["num_replicas"] = ingress_replicas
    with mock.patch.object(app, "Diffusion", NoopDiffusion):
        return app.build(args)


def picture(width: int, height: int) -> bytes:
    """A PNG of about one and a half bytes a pixel, as pictures of scenes have them."""
    rng = np.random.default_rng(0)
    slope = np.linspace(0, 200, width * height).reshape(height, width, 1)
    pixels = slope + rng.integers(0, 16, (height, width, 3))
    return encode(pixels.astype(np.uint8), "png", 100)
