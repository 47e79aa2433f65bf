"""An engine driven by the test's own thread, and rows for it."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deployments.diffusion.batch import Layout
from deployments.diffusion.capacity import CapacityCurve
from deployments.diffusion.engine import Engine
from deployments.diffusion.families.family import Family
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.switches.caching import step_cache
from deployments.requests import ImageResult, PreparedImage, Row


def make_curve(lanes: Sequence[int]) -> CapacityCurve:
    """A lane of a full batch costs 10 ms, and fewer lanes are no faster."""
    return CapacityCurve(
        lanes=tuple(lanes),
        step_s=tuple(0.01 * max(lanes) for _ in lanes),
        encode_image_s=0.01,
        decode_s=0.01,
    )


@contextmanager
def driven(
    family: Family, *, clock: Callable[[], float] = time.monotonic, **settings: Any
) -> Iterator[Engine]:
    """An engine that steps only when told to; closed at the end. A full batch is its knee."""
    chosen = DiffusionSettings(**{"id": "tiny", "source": "tiny", "max_queue_s": 1e9, **settings})
    engine = Engine(
        family,
        chosen,
        layout=Layout(
            family.denoise,
            family.device,
            buckets=chosen.padded_to,
            cache=step_cache(family, chosen),
        ),
        curve=make_curve(chosen.lane_buckets),
        unit=(family.native_side, family.native_side),
        clock=clock,
    )
    with torch.inference_mode():
        yield engine
    engine.close()


def drive(engine: Engine, futures: Sequence[Future[Any]]) -> None:
    """Steps until every future is done."""
    for future in futures:
        future.add_done_callback(lambda _: engine.wake())

    def settled() -> bool:
        return all(future.done() for future in futures)

    while not settled():
        if not engine.step():
            engine.wait_for_work(settled)


def wait_until_waiting(engine: Engine, rows: int) -> None:
    """Returns when `rows` rows are in the queue; they get there on the desk's thread."""
    with engine._changed:
        assert engine._changed.wait_for(lambda: len(engine._queue) >= rows, timeout=60)


def wait_until_settled(engine: Engine) -> None:
    """Returns when every row that was submitted is in the queue, or was refused."""
    with engine._changed:
        assert engine._changed.wait_for(lambda: not engine._reception.arriving, timeout=60)


def pictures(
    engine: Engine, wanted: Sequence[tuple[Row, PreparedImage | None]]
) -> list[NDArray[np.int16]]:
    """What rows that all wait before the first step become, in order."""
    futures = [engine.submit(row, prepared) for row, prepared in wanted]
    wait_until_waiting(engine, len(wanted))
    drive(engine, futures)
    return [pixels(future.result()) for future in futures]


def pixels(result: ImageResult) -> NDArray[np.int16]:
    """The picture, in a type whose differences do not wrap."""
    return pixels_of(result.content)


def pixels_of(content: bytes) -> NDArray[np.int16]:
    """The same of a file."""
    import cv2

    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    return decoded.astype(np.int16)
