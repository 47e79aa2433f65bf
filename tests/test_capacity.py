"""Measured capacity alone: no torch, no clock; the seconds are numbers."""

import logging
from collections.abc import Hashable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.diffusion.capacity import (
    KEYS_KNOWN,
    Capacity,
    CapacityCurve,
    CurveKey,
    CurveStore,
    Room,
)

KEY = CurveKey(
    device="NVIDIA H100 80GB HBM3",
    model="sd15",
    source="stable-diffusion-v1-5",
    dtype="bfloat16",
    size=(512, 512),
    mode="sdpa, max-autotune",
    torch="2.13.0",
    diffusers="0.42.1",
    lane_buckets=(2, 4, 8, 16),
)


def curve(lanes: tuple[int, ...] = (2, 4, 8, 16), *step_s: float) -> CapacityCurve:
    """Unless told otherwise, as measured on two CPU cores with the embedded model."""
    return CapacityCurve(
        lanes=lanes,
        step_s=step_s or (0.0254, 0.0335, 0.0534, 0.0927),
        encode_image_s=0.02,
        decode_s=0.03,
    )


def test_a_step_costs_what_was_measured_and_between_buckets_in_proportion() -> None:
    measured = curve()
    for lanes, step_s in zip(measured.lanes, measured.step_s, strict=True):
        assert measured.step_at(lanes) == pytest.approx(step_s)
    assert measured.step_at(1) == measured.step_at(2)
    assert measured.step_at(6) == pytest.approx((0.0335 + 0.0534) / 2)
    assert measured.step_at(10) == pytest.approx(0.75 * 0.0534 + 0.25 * 0.0927)
    assert measured.step_at(32) == pytest.approx(2 * 0.0927)


@given(low=st.floats(0.5, 40), high=st.floats(0.5, 40))
def test_more_lanes_never_cost_less(low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert curve().step_at(low) <= curve().step_at(high)


@pytest.mark.parametrize(
    ("measured", "knee"),
    [
        (curve(), 16),  # 79, 119, 150, 173 lanes/s
        (curve((1, 2, 4, 8), 1.0, 1.0, 1.96, 3.9), 2),  # bound by computing from 2 lanes on
        (curve((1, 2, 4, 8), 1.0, 2.0, 4.0, 8.0), 2),  # from 1, but a guided row needs 2
        (curve((1, 2, 4, 8), 1.0, 1.0, 2.2, 2.0), 8),  # one bucket measured too slow
        (curve((1, 2, 4, 8), 1.0, 1.0, 1.2, 3.0), 4),  # the largest is worse
    ],
)
def test_the_knee_is_the_first_bucket_near_the_best(measured: CapacityCurve, knee: int) -> None:
    assert measured.knee(margin=0.05) == knee


def test_a_wider_margin_takes_a_smaller_bucket() -> None:
    assert [curve().knee(margin) for margin in (0.05, 0.2, 0.5)] == [16, 8, 4]


def test_the_limit_is_the_knee_or_what_is_configured() -> None:
    assert Capacity(curve(), max_lanes=16).limit("a") == 16
    assert Capacity(curve(), max_lanes=16, margin=0.2).limit("a") == 8
    assert Capacity(curve(), max_lanes=4).limit("a") == 4


def test_a_lane_costs_its_share_of_a_full_step() -> None:
    assert Capacity(curve(), max_lanes=16).lane_call_s("a") == pytest.approx(0.0927 / 16)
    assert Capacity(curve(), max_lanes=8).lane_call_s("a") == pytest.approx(0.0534 / 8)


@pytest.mark.parametrize("weight", [2, 5, 16])
def test_a_warm_up_on_a_busy_machine_is_forgotten(weight: float) -> None:
    busy = curve((2, 4, 8, 16), *(40 * step_s for step_s in curve().step_s))
    capacity = Capacity(busy, max_lanes=16)
    for _ in range(50):
        capacity.observe("a", weight, curve().step_at(weight))
    for other in (2, 5, 16, 32):  # at every weight, not at the observed one alone
        assert capacity.step_s("a", other) == pytest.approx(curve().step_at(other), rel=0.25)


def test_a_step_that_something_held_up_is_not_what_steps_cost() -> None:
    capacity = Capacity(curve(), max_lanes=16)
    capacity.observe("a", 16, 60.0)
    assert capacity.step_s("a", 16) == capacity.usual_step_s == pytest.approx(1.3 * 0.0927)
    for _ in range(10):
        capacity.observe("b", 16, 10 * 0.0927)
    assert capacity.step_s("b", 16) > 5 * 0.0927


def test_keys_learn_apart_and_a_new_one_starts_where_the_others_are() -> None:
    capacity = Capacity(curve(), max_lanes=16)
    for _ in range(100):
        capacity.observe("small", 8, 0.5 * 0.0534)
    assert capacity.step_s("small", 16) == pytest.approx(0.5 * 0.0927, rel=0.01)
    assert capacity.step_s("new", 16) == pytest.approx(0.5 * 0.0927, rel=0.01)
    for _ in range(100):
        capacity.observe("large", 8, 2 * 0.0534)
    assert capacity.step_s("large", 16) == pytest.approx(2 * 0.0927, rel=0.01)
    assert capacity.step_s("small", 16) == pytest.approx(0.5 * 0.0927, rel=0.01)


def test_running_out_of_memory_lowers_the_limit_of_its_key() -> None:
    capacity = Capacity(curve(), max_lanes=16)
    capacity.lower("a", 12)
    assert (capacity.limit("a"), capacity.limit("b")) == (6, 16)
    capacity.lower("a", 16)  # a wide row that ran alone says nothing better
    assert capacity.limit("a") == 6
    for _ in range(9):
        capacity.lower("a", capacity.limit("a"))
    assert capacity.limit("a") == 1


def test_alike_keys_are_one() -> None:
    capacity = Capacity(curve(), max_lanes=16, alike=lambda key: str(key)[0])
    capacity.lower("a1", 12)
    capacity.observe("b1", 8, 2 * 0.0534)
    assert [capacity.limit(key) for key in ("a2", "b2")] == [6, 16]
    assert capacity.step_s("b2", 8) == capacity.step_s("b1", 8) > 1.05 * 0.0534
    for number in range(100):
        capacity.lower(f"a{number}", 8)
        capacity.observe(f"a{number}", 8, 0.0534)
    assert (len(capacity._lowered), len(capacity._factors)) == (1, 2)


@pytest.mark.parametrize(
    ("running", "key", "weight", "refusal"),
    [
        ({}, "a", 8, None),
        ({}, "a", 99, None),  # wider than the capacity, but alone
        ({"a": 6}, "a", 2, None),
        ({"a": 4, "b": 2}, "c", 2, None),
        ({"a": 4, "b": 4}, "c", 1, "no lane free"),
        ({"a": 7}, "b", 2, "wider than the lanes free"),
        ({"a": 1}, "b", 9, "wider than the capacity, to run alone"),
        ({"low": 2, "a": 2}, "low", 2, None),
        ({"low": 4, "a": 2}, "low", 2, "no lanes free for its size"),
        ({"low": 4}, "a", 4, None),
        ({"low": 4}, "low", 1, "no lane free"),  # the memory is that of the highest limit running
        ({"low": 1}, "low", 5, "wider than the capacity, to run alone"),
        ({"low": 5}, "a", 1, "no lane free"),  # a row wider than its limit runs, alone
    ],
)
def test_room(running: dict[Hashable, float], key: str, weight: float, refusal: str | None) -> None:
    capacity = Capacity(curve(), max_lanes=8)
    capacity.lower("low", 8)
    room = Room(capacity)
    for other, lanes in running.items():
        room.take(other, lanes)
    assert room.refusal(key, weight) == refusal


def test_what_was_let_in_takes_room() -> None:
    room = Room(Capacity(curve(), max_lanes=8))
    room.take("a", 4)
    room.take("b", 1)
    assert [room.is_last("a", weight) for weight in (1, 2, 3)] == [False, False, True]
    room.take("b", 2.5)
    assert room.taken == {"a": 4, "b": 3.5}
    assert room.refusal("a", 1) == "no lane free"
    assert not Room(Capacity(curve(), max_lanes=8)).is_last("a", 8)  # it runs alone


def test_a_small_capacity_keeps_no_lanes_and_a_lowered_key_is_not_the_measure() -> None:
    small = Room(Capacity(curve(), max_lanes=4))
    small.take("a", 2)
    assert not small.is_last("a", 2)
    capacity = Capacity(curve(), max_lanes=8)
    capacity.lower("low", 4)
    room = Room(capacity)
    room.take("a", 2)
    assert not room.is_last("low", 1)


# On disk


def test_a_saved_curve_is_loaded_by_its_key_alone(tmp_path: Path) -> None:
    store = CurveStore(tmp_path / "made" / "when needed")
    assert store.load(KEY) is None
    store.save(KEY, curve())
    assert store.load(KEY) == curve()
    for changed in ({"torch": "2.14.0"}, {"size": (768, 512)}, {"mode": "sdpa"}):
        assert store.load(msgspec.structs.replace(KEY, **changed)) is None
    store.save(KEY, curve(KEY.lane_buckets, 1.0, 2.0, 3.0, 4.0))
    assert CurveStore(tmp_path / "made" / "when needed").load(KEY) != curve()
    assert len(list(tmp_path.rglob("*.*"))) == 1  # no temporary file is left


def saved_file(folder: Path) -> Path:
    CurveStore(folder).save(KEY, curve())
    [path] = folder.iterdir()
    return path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"{", b"["),  # no JSON
        (b'"sd15"', b'"\xff"'),  # no UTF-8
        (b'"curve"', b'"curves"'),
        (b"0.0254", b'"fast"'),
        (b"0.0254", b"-1"),
        (b"0.0254,", b""),  # one time less than lanes
        (b'"lanes":[2,4', b'"lanes":[4,2'),
        (b'"sd15"', b'"sdxl"'),  # another key, as if two had one name
    ],
)
def test_a_damaged_file_is_named_and_measured_anew(
    tmp_path: Path, old: bytes, new: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved_file(tmp_path)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    assert CurveStore(tmp_path).load(KEY) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(path) in caplog.text
    CurveStore(tmp_path).save(KEY, curve())
    assert CurveStore(tmp_path).load(KEY) == curve()


def test_a_folder_that_takes_no_files_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    store = CurveStore(tmp_path / "file")
    store.save(KEY, curve())
    assert "cannot be saved" in caplog.text
    assert store.load(KEY) is None


def test_a_save_that_fails_leaves_the_old_curve_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved_file(tmp_path)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    CurveStore(tmp_path).save(KEY, curve(KEY.lane_buckets, 1.0, 2.0, 3.0, 4.0))
    assert list(tmp_path.iterdir()) == [path]
    assert CurveStore(tmp_path).load(KEY) == curve()


def test_keys_met_long_ago_are_forgotten() -> None:
    capacity = Capacity(curve(), max_lanes=16)
    for number in range(KEYS_KNOWN + 50):
        capacity.observe(number, 8, 0.0534)
        capacity.observe("always", 8, 2 * 0.0534)
    assert len(capacity._factors) == KEYS_KNOWN
    assert capacity.step_s("always", 8) == pytest.approx(2 * 0.0534, rel=0.01)
