"""A backend for the routes without a GPU room, and a client that talks to them in-process.

The interface is the one that the Ray shim fills. Input images are really decoded and pictures
really encoded; only what lies between is missing: a picture is one colour, made of its seed.
"""

import asyncio
import io
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import httpx
import httpx2
import numpy as np
from PIL import Image
from starlette.types import ASGIApp

from deployments.diffusion.run import Watcher
from deployments.imaging.codecs import decode, encode
from deployments.ingress.routes import build_app
from deployments.ingress.settings import IngressSettings
from deployments.jobs.ledger import Ledger
from deployments.jobs.settings import JobsSettings
from deployments.requests import GenerationRequest, ImageResult, ModelCard, Progress, Row

CARD = ModelCard(
    id="tiny",
    created=1_790_000_000,
    family="stable-diffusion",
    default_width=64,
    default_height=64,
    size_multiple=8,
    min_side=32,
    max_side=256,
    latent_factor=8,
    schedulers=(
        "DDIMScheduler",
        "DPMSolverMultistepScheduler",
        "EulerDiscreteScheduler",
        "UniPCMultistepScheduler",
    ),
    default_scheduler="EulerDiscreteScheduler",
    default_steps=20,
    max_steps=100,
    default_guidance=7.5,
    max_guidance=30.0,
    default_strength=0.8,
    max_images=10,
)


class OneColour:
    """Paints every row in the colour of its seed and remembers what it was asked."""

    def __init__(self, *, warm: bool = True, failure: Exception | None = None) -> None:
        self.warm = warm
        self.failure = failure
        self.asked: list[GenerationRequest] = []
        self.closed = 0
        """Watches that were closed before their last picture."""
        self.jobs = Ledger(self.watch_patiently, JobsSettings())

    def cards(self) -> Mapping[str, ModelCard]:
        return {CARD.id: CARD} if self.warm else {}

    def models(self) -> Sequence[str]:
        return [CARD.id, "loading"]

    async def ready(self) -> bool:
        return self.warm

    async def generate(self, request: GenerationRequest) -> list[ImageResult]:
        self.asked.append(request)
        if self.failure is not None:
            raise self.failure
        for param, content in (("image", request.image), ("mask", request.mask)):
            if content is not None:
                decode(content, param=param, max_megapixels=32.0)
        return [_paint(row) for row in request.rows]

    def watch_patiently(
        self, request: GenerationRequest, *, previews: int, patience_s: float
    ) -> AsyncGenerator[Progress | ImageResult]:
        return self.watch(request, previews=previews)

    async def watch(
        self, request: GenerationRequest, *, previews: int
    ) -> AsyncGenerator[Progress | ImageResult]:
        """Row by row and call by call; previews come evenly, as the engine's do."""
        watcher = Watcher(lambda _: None, previews=previews)
        try:
            for row, result in zip(request.rows, await self.generate(request), strict=True):
                for call in range(1, row.num_inference_steps + 1):
                    await asyncio.sleep(0)
                    yield _progress(row, call, watcher)
                yield result
        except (asyncio.CancelledError, GeneratorExit):
            self.closed += 1
            raise


def _progress(row: Row, call: int, watcher: Watcher) -> Progress:
    calls = row.num_inference_steps
    shown = np.full((16, 16, 3), colour_of(row.seed), np.uint8)
    return Progress(
        row_id=row.id,
        state="running" if call < calls else "decoding",
        call=call,
        calls=calls,
        queue_position=0,
        eta_s=0.1 * (calls - call),
        preview=encode(shown, "jpeg", 90) if watcher.wants_preview(call, calls) else None,
    )


def colour_of(seed: int) -> tuple[int, int, int]:
    """The colour of every pixel of a picture of this seed."""
    return (seed * 37 % 256, seed * 101 % 256, seed * 211 % 256)


def app_over(backend: OneColour, **settings: Any) -> ASGIApp:
    return build_app(backend, IngressSettings(**settings))


def ask(app: ASGIApp, method: str, path: str, **kwargs: Any) -> httpx.Response:
    """One request through the app, without a network."""

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://ingress") as client:
            return await client.request(method, path, **kwargs)

    return asyncio.run(run())


class InProcess(httpx2.BaseTransport):
    """The synchronous way into an ASGI app, for clients that know only that."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = ask(
            self._app,
            request.method,
            request.url.raw_path.decode(),
            headers=list(request.headers.raw),
            content=request.read(),
        )
        return httpx2.Response(
            answer.status_code, headers=list(answer.headers.raw), content=answer.content
        )


def png(width: int = 48, height: int = 32, mode: str = "RGB") -> bytes:
    """A file of a gradient, so that it is not a handful of bytes."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert(mode).save(buffer, "png")
    return buffer.getvalue()


def _paint(row: Row) -> ImageResult:
    pixels = np.full((row.height, row.width, 3), colour_of(row.seed), np.uint8)
    return ImageResult(
        row_id=row.id,
        content=encode(pixels, row.output_format, row.output_compression),
        output_format=row.output_format,
        width=row.width,
        height=row.height,
        seed=row.seed,
        model_calls=row.num_inference_steps,
        queue_wait_s=0.0,
        run_s=0.0,
    )
