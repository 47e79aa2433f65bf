"""Requests over time: one after the other, several at once, and probes at fixed times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

from .client import Answer, Connection, Refused, Target, ask, body_of

READY_PAUSE_S = 0.1
READY_TIMEOUT_S = 120.0


async def until_ready(target: Target, *, in_a_row: int) -> None:
    """Asks until so many successes came in a row: every replica is warm then. Raises Refused."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    successes = 0
    while successes < in_a_row:
        answer = await ask(target)
        successes = successes + 1 if answer.status == 200 else 0
        if answer.status != 200:
            if time.monotonic() > deadline:
                raise Refused(f"not ready after {READY_TIMEOUT_S:g} s: {answer.body[:500]!r}")
            await asyncio.sleep(READY_PAUSE_S)


async def one_by_one(target: Target, count: int) -> list[float]:
    """Milliseconds from request to answer, over one connection."""
    latencies_ms = []
    async with await Connection.open(target.port) as connection:
        for _ in range(count):
            began = time.perf_counter()
            body_of(await connection.ask(target.request))
            latencies_ms.append(1e3 * (time.perf_counter() - began))
    return latencies_ms


async def closed_loop(target: Target, count: int, *, connections: int) -> float:
    """Answers per second when every connection asks again as soon as it is answered."""
    left = iter(range(count))

    async def ask_while_any_is_left() -> None:
        async with await Connection.open(target.port) as connection:
            for _ in left:
                body_of(await connection.ask(target.request))

    began = time.perf_counter()
    await asyncio.gather(*(ask_while_any_is_left() for _ in range(connections)))
    return count / (time.perf_counter() - began)


async def probed_under_load(
    probe: Target, wishes: Sequence[Target], *, seconds: float, every_s: float
) -> tuple[list[float], list[list[Answer]]]:
    """Milliseconds of each probe, and the answers to each of the wishes.

    Every wish is asked for again as soon as it is answered. Probes go out when they are due,
    answered or not the ones before, each on a connection of its own as a load balancer's do;
    their time counts from when they were due.
    """
    ended, begun = asyncio.Event(), asyncio.Event()

    async def ask_again_and_again(wish: Target) -> list[Answer]:
        answers = []
        while not ended.is_set():
            answers.append(await ask(wish))
            begun.set()
        return answers

    asking = [asyncio.create_task(ask_again_and_again(wish)) for wish in wishes]
    await begun.wait()
    probes = [asyncio.create_task(_probe(probe, after_s)) for after_s in _times(seconds, every_s)]
    await asyncio.sleep(seconds)
    ended.set()
    return await asyncio.gather(*probes), await asyncio.gather(*asking)


async def _probe(target: Target, after_s: float) -> float:
    """Milliseconds from when it was due."""
    due = time.perf_counter() + after_s
    await asyncio.sleep(after_s)
    body_of(await ask(target))
    return 1e3 * (time.perf_counter() - due)


def _times(seconds: float, every_s: float) -> Iterator[float]:
    return (every_s * number for number in range(max(1, round(seconds / every_s))))
