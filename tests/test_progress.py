"""What watchers are told, and that previews look like the picture to come."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.diffusion.families.family import Family
from deployments.diffusion.run import Watcher
from deployments.requests import Progress
from tests.driving import drive, driven, pixels, wait_until_waiting
from tests.rows import make_prepared, make_row


def test_every_call_is_told(tiny_family: Family) -> None:
    told: list[Progress] = []
    # A clock that stands still: what steps take must not decide what is told.
    with driven(tiny_family, clock=lambda: 0.0, lane_buckets=(1, 2)) as engine:
        first = engine.submit(make_row(seed=1))
        wait_until_waiting(engine, 1)
        engine.step()
        second = engine.submit(make_row(seed=2), watcher=Watcher(told.append))
        drive(engine, [first, second])
    assert [(p.state, p.call) for p in told] == [
        ("waiting", 0),
        *(("running", call) for call in range(1, 6)),
        ("decoding", 6),
    ]
    assert {(p.row_id, p.calls, p.preview) for p in told} == {("row-2", 6, None)}
    etas = [p.eta_s for p in told]
    assert etas[0] > etas[1] > etas[-1] > 0


def test_previews_come_when_asked_for_and_near_the_picture(
    embedded_family: Family,
) -> None:
    told: list[Progress] = []
    row = make_row(
        width=256, height=256, num_inference_steps=10, prompt="a red house on snowy hills at night"
    )
    with driven(embedded_family) as engine:
        future = engine.submit(row, watcher=Watcher(told.append, preview_every=3))
        drive(engine, [future])
        engine._codecs.close()
        assert engine.stats().previews == 3
    shown = {p.call: decoded(p.preview) for p in told if p.preview is not None}
    assert sorted(shown) == [3, 6, 9]
    assert len([p for p in told if p.state == "running"]) == 9
    height, width = shown[9].shape[:2]
    picture = cv2.resize(pixels(future.result()).astype(np.uint8), (width, height))
    errors = [np.abs(shown[call].astype(float) - picture).mean() for call in (3, 9)]
    assert errors[1] < errors[0]
    assert errors[1] < 20, "a mean of 20 of 255 is another picture"


def test_a_watcher_that_fails_does_not_hurt_the_row(
    tiny_family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Progress) -> None:
        raise ConnectionResetError("the client has gone")

    with driven(tiny_family) as engine:
        future = engine.submit(make_row(), make_prepared(1), watcher=Watcher(fail, 2))
        drive(engine, [future])
        assert future.result().seed == 0
    assert "its watcher failed" in caplog.text


def decoded(jpeg: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return np.asarray(image, np.uint8)
