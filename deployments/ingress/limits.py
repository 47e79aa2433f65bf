"""What the operator allows a caller beyond the models' own limits.

Steps, sizes and pictures of one request are decided here. Rows in flight and rows a minute are
counted in the jobs room, which all ingress replicas share: a request holds a lease there while it
runs, and the lease of a replica that died expires.
"""

import asyncio
import contextvars
import logging
import math
import secrets
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace

from deployments.errors import InvalidRequest
from deployments.ingress.backend import Jobs
from deployments.ingress.settings import LimitsSettings
from deployments.requests import GenerationRequest, ModelCard

log = logging.getLogger(__name__)

RENEW_S = 20.0
"""A third of the time after which the jobs room forgets a lease."""


def narrowed(card: ModelCard, limits: LimitsSettings) -> ModelCard:
    """The card with no more pictures and steps than the limits allow, and no larger default."""
    max_steps = limits.max_steps or card.max_steps
    width, height = _default_size(card, limits.max_pixels)
    return replace(
        card,
        default_width=width,
        default_height=height,
        max_images=min(card.max_images, limits.max_rows or card.max_images),
        max_steps=min(card.max_steps, max_steps),
        default_steps=min(card.default_steps, max_steps),
    )


def _default_size(card: ModelCard, max_pixels: int) -> tuple[int, int]:
    """The model's own, or the largest of its shape that the limit allows."""
    width, height = card.default_width, card.default_height
    if not max_pixels or width * height <= max_pixels:
        return width, height
    allowed = [size for size in card.sizes if size[0] * size[1] <= max_pixels]
    if card.sizes:
        return max(allowed, key=math.prod, default=(width, height))
    scale, multiple = math.sqrt(max_pixels / (width * height)), card.size_multiple

    def within(side: int) -> int:
        return max(int(side * scale) // multiple * multiple, card.min_side)

    return within(width), within(height)


def check_pixels(request: GenerationRequest, limits: LimitsSettings) -> None:
    """Raises InvalidRequest for pictures larger than the limit."""
    width, height = request.rows[0].width, request.rows[0].height
    if limits.max_pixels and width * height > limits.max_pixels:
        raise InvalidRequest(
            f"size {width}x{height} is {width * height} pixels; at most {limits.max_pixels} are "
            "made here, send a smaller size",
            param="size",
        )


class Leases:
    """What this replica's requests hold in the jobs room."""

    def __init__(self, jobs: Jobs, limits: LimitsSettings, *, renew_s: float = RENEW_S) -> None:
        self._jobs, self._limits, self._renew_s = jobs, limits, renew_s
        self._holding: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def held(self, request: GenerationRequest) -> AsyncGenerator[None]:
        """While the rows run. Costs a hop, and only where such a limit is set.

        Raises TooManyRows.
        """
        if not self._limits.count_rows:
            yield
            return
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[None] = loop.create_future()
        released = asyncio.Event()
        # One task for all of the lease, in a context of its own: a client that leaves cancels its
        # request, and Serve all calls of it, at any moment; the lease must be ended all the same.
        holding = loop.create_task(
            self._hold(request, taken, released), context=contextvars.Context()
        )
        self._holding.add(holding)
        holding.add_done_callback(self._holding.discard)
        try:
            await taken
            yield
        finally:
            released.set()

    async def _hold(
        self, request: GenerationRequest, taken: asyncio.Future[None], released: asyncio.Event
    ) -> None:
        caller, lease_id = request.caller, secrets.token_hex(16)
        try:
            await self._jobs.take_lease(caller, lease_id, len(request.rows))
        except Exception as error:
            if not taken.done():  # done: whoever waited was cancelled
                taken.set_exception(error)
            return
        if not taken.done():
            taken.set_result(None)
        try:
            while not await _is_set(released, within_s=self._renew_s):
                await _or_expires(self._jobs.renew_lease(caller, lease_id))
        finally:
            await _or_expires(self._jobs.end_lease(caller, lease_id))


async def _is_set(event: asyncio.Event, *, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            return await event.wait()
    except TimeoutError:
        return False


async def _or_expires(told: Awaitable[None]) -> None:
    """Whatever keeps the jobs room from hearing of a lease, the lease expires there."""
    try:
        await told
    except Exception:
        log.warning("the jobs room was not told of a lease", exc_info=True)
