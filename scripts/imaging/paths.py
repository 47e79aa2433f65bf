"""The whole path, from bytes to an array and from an array to bytes, for a coroutine that waits.

Three ways: inline, as an async endpoint does that calls a library; on a thread of its process; and
on a Ray Serve replica, where it is sent. Told are the milliseconds of a call, and the longest that
the caller's event loop was blocked in it; both are medians over the rounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import serve
from ray.serve.handle import DeploymentHandle
from server.serving import running_serve

from deployments.imaging.codecs import encode
from deployments.imaging.deployment import Imaging
from deployments.imaging.prepare import prepare
from deployments.imaging.settings import ImagingSettings
from deployments.requests import OutputFormat, PreparedImage, PrepareSpec
from imaging.encoding_replica import Encoder
from imaging.files import saved
from imaging.pictures import photo
from imaging.turns import Effort, Figures
from imaging.watch import watched

INPUTS: tuple[OutputFormat, ...] = ("jpeg", "png")
OPTIONS: dict[str, Any] = {
    "max_ongoing_requests": 16,
    "ray_actor_options": {"num_cpus": 1},
    "graceful_shutdown_wait_loop_s": 0.1,
}

Content = bytes | NDArray[np.float32]
Way = Callable[[], Awaitable[Content]]


def measure(side: int, effort: Effort) -> dict[str, Figures]:
    """A photo's file to planes of half its side, and the photo to a PNG. Starts Ray, and ends it.

    `side` is a multiple of 16 pixels.
    """
    paths: dict[str, dict[str, Way]] = {}
    with running_serve(), ThreadPoolExecutor(1) as threads:
        imaging = _replica("imaging", Imaging, ImagingSettings())
        for name in INPUTS:
            ways = _to_array(saved(photo(side), name), side // 2, threads, imaging)
            paths[f"bytes_to_array_{name}_{side}_{side // 2}"] = ways
        encoder = _replica("encoder", Encoder)
        paths[f"array_to_bytes_png_{side}"] = _to_png(photo(side), threads, encoder)
        return asyncio.run(_all_figures(paths, effort.rounds))


def _replica(name: str, room: type, *arguments: Any) -> DeploymentHandle[Any]:
    deployment = serve.deployment(name=name, **OPTIONS)(room)
    handle: DeploymentHandle[Any] = serve.run(
        deployment.bind(*arguments), name=name, route_prefix=None
    )
    return handle


def _to_array(
    content: bytes, target: int, threads: Executor, imaging: DeploymentHandle[Any]
) -> dict[str, Way]:
    spec = PrepareSpec(width=target, height=target, latent_factor=8, mask_polarity="transparent")

    async def sent() -> Content:
        prepared: PreparedImage = await imaging.prepare.remote(content, None, spec)
        return prepared.pixels

    return _ways(lambda: prepare(content, None, spec, ImagingSettings()).pixels, threads, sent)


def _to_png(
    pixels: NDArray[np.uint8], threads: Executor, encoder: DeploymentHandle[Any]
) -> dict[str, Way]:
    async def sent() -> Content:
        content: bytes = await encoder.encode.remote(pixels)
        return content

    return _ways(lambda: encode(pixels, "png", 100), threads, sent)


def _ways(work: Callable[[], Content], threads: Executor, sent: Way) -> dict[str, Way]:
    async def inline() -> Content:
        return work()

    async def on_a_thread() -> Content:
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    return {"inline": inline, "thread": on_a_thread, "replica": sent}


async def _all_figures(paths: Mapping[str, Mapping[str, Way]], rounds: int) -> dict[str, Figures]:
    return {path: await _figures(ways, rounds) for path, ways in paths.items()}


async def _figures(ways: Mapping[str, Way], rounds: int) -> Figures:
    """The ways take turns, after one call each that is not counted."""
    answers = {_raw(await call()) for call in ways.values()}
    if len(answers) > 1:
        raise RuntimeError(f"{', '.join(ways)} gave {len(answers)} different answers")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            found[name].append(await watched(call))
    figures: Figures = {}
    for name, calls in found.items():
        took_ms, blocked_ms = zip(*calls, strict=True)
        figures |= {f"{name}_ms": median(took_ms), f"{name}_blocked_ms": median(blocked_ms)}
    return figures


def _raw(answer: Content) -> bytes:
    return answer if isinstance(answer, bytes) else answer.tobytes()
