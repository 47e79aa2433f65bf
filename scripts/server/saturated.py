"""How long GET /healthz takes while the service makes pictures as fast as it can."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from likeness import is_other_picture
from ray import serve

from deployments.imaging.codecs import decode
from serve_app.app import build

from . import child, load
from .client import Answer, Target, ask, body_of, get, post
from .figures import SaturatedFigures, percentile
from .serving import local_args, running_serve

SYSTEMS = ("stepwise", "async_def", "def")
PATH = "/v1/images/generations"
STEPS = (8, 12, 20)
GUIDANCE = 3.0
PROMPTS = (
    "a red house on green hills at day",
    "a white boat on a blue sea at dusk",
    "a yellow tree on snowy hills at night",
    "a purple tower on sand at day",
)


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    seconds: float
    """Of each service under load."""
    in_flight: int
    """Requests for pictures at any time."""
    probes_per_s: float
    threads: int
    """torch's."""


def measure(system: str, effort: Effort) -> SaturatedFigures:
    """Starts the service, asks it for each picture alone, then for all of them at once."""
    with _running(system, effort.threads) as port:
        return asyncio.run(_measured(port, effort))


async def _measured(port: int, effort: Effort) -> SaturatedFigures:
    wishes = [_wish(port, number) for number in range(effort.in_flight)]
    await load.until_ready(wishes[0], in_a_row=1)
    alone = [body_of(await ask(wish)) for wish in wishes]
    latencies_ms, answers = await load.probed_under_load(
        get(port, "/healthz"), wishes, seconds=effort.seconds, every_s=1 / effort.probes_per_s
    )
    return figures(latencies_ms, alone, answers)


def figures(
    latencies_ms: Sequence[float], alone: Sequence[bytes], answers: Sequence[Sequence[Answer]]
) -> SaturatedFigures:
    """`alone` and `answers` are of the same requests; the first are right."""
    right_and_found = [
        (right, answer) for right, found in zip(alone, answers, strict=True) for answer in found
    ]
    made = [(right, answer.body) for right, answer in right_and_found if answer.status == 200]
    return SaturatedFigures(
        healthz_p50_ms=percentile(latencies_ms, 50),
        healthz_p99_ms=percentile(latencies_ms, 99),
        probes=len(latencies_ms),
        pictures=len(made),
        wrong_pictures=sum(_differ(right, found) for right, found in made),
        failed=len(right_and_found) - len(made),
    )


def _wish(port: int, number: int) -> Target:
    wish = {
        "prompt": PROMPTS[number % len(PROMPTS)],
        "seed": number,
        "num_inference_steps": STEPS[number % len(STEPS)],
        "guidance_scale": GUIDANCE,
    }
    return post(port, PATH, wish, accept="image/png")


def _differ(right: bytes, found: bytes) -> bool:
    one, other = (decode(content, param="picture", max_megapixels=32) for content in (right, found))
    return is_other_picture(other, one)


@contextmanager
def _running(system: str, threads: int) -> Iterator[int]:
    """The port of the service."""
    if system == "stepwise":
        with _stepwise(threads) as port:
            yield port
    else:
        with child.running("server.replaced", system, str(threads)) as port:
            yield port


@contextmanager
def _stepwise(threads: int) -> Iterator[int]:
    """configs/local.yaml on Serve, with so many of torch's threads."""
    args = local_args()
    [model] = args["models"]
    # A new cache, so that the engine goes by what this machine costs now.
    with tempfile.TemporaryDirectory() as cache, running_serve() as port:
        model["settings"] |= {"threads": threads, "cache_folder": cache}
        serve.run(build(args), name="stepwise", route_prefix="/")
        yield port
