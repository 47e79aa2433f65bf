"""How long a coroutine keeps its event loop from everything else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

TICK_S = 0.001


async def watched(call: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Milliseconds until `call` has answered, and the longest the loop was blocked meanwhile.

    Beside it a task sleeps for a millisecond, again and again: what a sleep takes longer is the
    time for which the loop was blocked. The timer's own error, about a millisecond, is in it.
    """
    over = asyncio.Event()
    watch = asyncio.create_task(_longest_delay_s(over))
    await asyncio.sleep(0)  # now it is in its first sleep
    begun = time.perf_counter()
    await call()
    took_s = time.perf_counter() - begun
    over.set()
    return 1000 * took_s, 1000 * await watch


async def _longest_delay_s(over: asyncio.Event) -> float:
    longest_s = 0.0
    while not over.is_set():
        begun = time.perf_counter()
        await asyncio.sleep(TICK_S)
        longest_s = max(longest_s, time.perf_counter() - begun - TICK_S)
    return longest_s
