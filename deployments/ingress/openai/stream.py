"""From what a run tells to the events of a stream."""

import logging
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.concurrency import run_in_threadpool

from deployments.errors import StepwiseError
from deployments.ingress.openai.events import completed_event, partial_event
from deployments.ingress.openai.fields import ImagesCall
from deployments.ingress.previews import enlarged
from deployments.ingress.sse import error_event
from deployments.requests import GenerationRequest, ImageResult, Progress

log = logging.getLogger(__name__)

Told = AsyncGenerator[Progress | ImageResult]


async def begun_events(
    call: ImagesCall, settled: GenerationRequest, told: Told, *, request_id: str
) -> AsyncGenerator[bytes]:
    """The events of a run that has begun: waits for the first thing it tells.

    Raises what comes instead, which so becomes an ordinary answer with a status of its own; later
    errors are events. Closing the events closes `told`.
    """
    events = _events(call, settled, told, request_id=request_id)
    await anext(events)
    return events


async def _events(
    call: ImagesCall, settled: GenerationRequest, told: Told, *, request_id: str
) -> AsyncGenerator[bytes]:
    async with aclosing(told):
        first = await anext(told)
        # From here on a close reaches `told`: one that comes before the start of a generator
        # would run nothing of it.
        yield b""
        try:
            async for event in _pictures(call, settled, first, told):
                yield event
        except StepwiseError as error:
            log.warning("%s, in the stream of request %s", error, request_id)
            yield error_event(error)
        except Exception as error:
            log.exception("unexpected error in the stream of request %s", request_id)
            yield error_event(error)


async def _pictures(
    call: ImagesCall, settled: GenerationRequest, first: Progress | ImageResult, told: Told
) -> AsyncGenerator[bytes]:
    rows = {row.id: row for row in settled.rows}
    num_partials: Counter[str] = Counter()
    each: Progress | ImageResult | None = first
    while each is not None:
        if isinstance(each, ImageResult):
            yield completed_event(call, settled, each)
        elif each.preview is not None:
            row = rows[each.row_id]
            content = await run_in_threadpool(enlarged, each.preview, row)
            yield partial_event(call, row, content, index=num_partials[row.id])
            num_partials[row.id] += 1
        each = await anext(told, None)
