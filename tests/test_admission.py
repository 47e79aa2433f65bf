"""When one more image is too many for an imaging replica."""

import asyncio
import threading
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deployments.errors import ImagingFull, Requeue
from deployments.imaging.admission import Admission
from deployments.imaging.deployment import Imaging
from deployments.imaging.prepare import prepare
from deployments.imaging.settings import ImagingSettings
from deployments.requests import PreparedImage, PrepareSpec

SPEC = PrepareSpec(width=16, height=16, latent_factor=8, mask_polarity="white")


@given(st.integers(1, 8), st.integers(0, 20), st.lists(st.booleans(), max_size=60))
def test_no_more_wait_than_may(threads: int, max_waiting: int, arrives: list[bool]) -> None:
    admission, inside = Admission(threads=threads, max_waiting=max_waiting), 0
    for one_more in arrives:
        if not one_more:
            if inside:
                admission.leave()
                inside -= 1
            continue
        if inside == threads + max_waiting:
            with pytest.raises(Requeue):
                admission.enter()
            continue
        admission.enter()
        inside += 1
        assert admission.waiting == max(inside - threads, 0) <= max_waiting


def test_who_is_refused_hears_how_long_the_rest_takes() -> None:
    admission = Admission(threads=2, max_waiting=4)
    for _ in range(200):
        admission.enter()
        admission.leave(0.5)
    for _ in range(6):
        admission.enter()
    with pytest.raises(Requeue, match="4 images wait to be prepared here, and 4 may") as refused:
        admission.enter()
    assert refused.value.pending_s == pytest.approx(1.5, rel=0.01)


def test_a_replica_refuses_what_it_has_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    gate = threading.Event()

    def gated(*arguments: Any) -> PreparedImage:
        assert gate.wait(60)
        return prepare(*arguments)

    monkeypatch.setattr("deployments.imaging.deployment.prepare", gated)
    picture = BytesIO()
    Image.new("RGB", (16, 16)).save(picture, "png")
    image = picture.getvalue()

    async def four_at_once() -> list[Any]:
        imaging = Imaging(ImagingSettings(max_waiting=1))
        calls = [asyncio.create_task(imaging.prepare(image, None, SPEC)) for _ in range(4)]
        refused, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
        assert all(isinstance(call.exception(), ImagingFull) for call in refused)
        calls[1].cancel()  # it waits, so its place is free at once
        await asyncio.wait([calls[1]])
        # Nor does what nobody waits for any more stay in memory until a thread comes to it.
        assert imaging._pool._work_queue.empty()
        later = asyncio.create_task(imaging.prepare(image, None, SPEC))
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*calls, later, return_exceptions=True)

    kinds = [type(answer) for answer in asyncio.run(four_at_once())]
    assert kinds == [
        PreparedImage, asyncio.CancelledError, ImagingFull, ImagingFull, PreparedImage,
    ]  # fmt: skip
