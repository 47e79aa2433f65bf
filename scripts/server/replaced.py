"""A service of the kind that this one replaces: a FastAPI endpoint that runs the pipeline itself.

`python -m server.replaced PORT async_def|def THREADS`. With `async_def` the pipeline runs on the
event loop; with `def` on threads, several calls at once in one pipeline with one scheduler.
"""

# Not `from __future__ import annotations`: FastAPI reads the annotations of the endpoints.

import sys
from typing import Any

import diffusers
import numpy as np
import pydantic
import torch
import uvicorn
from diffusers import StableDiffusionPipeline
from fastapi import FastAPI, Response

from deployments.diffusion.model_files import EMBEDDED
from deployments.imaging.codecs import encode

from .child import end_with_parent
from .client import HOST


class Wish(pydantic.BaseModel):
    """The body of a request."""

    prompt: str
    seed: int
    num_inference_steps: int
    guidance_scale: float


def build_app(pipeline: Any, endpoint: str) -> FastAPI:
    """The service around a pipeline."""
    app = FastAPI()

    def generate(wish: Wish) -> Response:
        return Response(_png(pipeline, wish), media_type="image/png")

    async def generate_on_the_loop(wish: Wish) -> Response:
        return generate(wish)

    endpoints = {"async_def": generate_on_the_loop, "def": generate}
    app.post("/v1/images/generations")(endpoints[endpoint])

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


def load() -> Any:
    """The embedded model's pipeline, laid out in memory as our engine's."""
    make: Any = StableDiffusionPipeline.from_pretrained
    pipeline = make(
        EMBEDDED, dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _png(pipeline: Any, wish: Wish) -> bytes:
    [pixels] = pipeline(
        prompt=wish.prompt,
        generator=torch.Generator().manual_seed(wish.seed),
        num_inference_steps=wish.num_inference_steps,
        guidance_scale=wish.guidance_scale,
        output_type="np",
    ).images
    return encode((255 * pixels).round().astype(np.uint8), "png", 100)


def main(port: int, endpoint: str, threads: int) -> None:
    """Serves until the process ends."""
    torch.set_num_threads(threads)
    diffusers.utils.logging.set_verbosity_error()
    uvicorn.run(build_app(load(), endpoint), host=HOST, port=port, log_level="warning")


if __name__ == "__main__":
    end_with_parent()
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
