"""The queue alone: no torch, no engine; time is a number."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.diffusion.queue import AGEING_CALLS_PER_S, StepQueue
from deployments.errors import Requeue


@dataclass(eq=False)
class Waiting:
    calls_left: int = 20
    weight: float = 2
    key: str = "a"
    submitted_s: float = 0.0
    gone: bool = False


def queue(*rows: Waiting, max_queue_s: float = 1e9, max_lanes: int = 8) -> StepQueue[Any]:
    made: StepQueue[Any] = StepQueue(max_queue_s=max_queue_s, max_lanes=max_lanes, lane_call_s=0.01)
    for row in rows:
        made.push(row)
    return made


def test_fewest_calls_left_go_first() -> None:
    long, short = Waiting(calls_left=50), Waiting(calls_left=8)
    assert queue(long, short).admit(running=6, now_s=0) == [short]


def test_waiting_makes_a_long_row_urgent() -> None:
    long, short = Waiting(calls_left=50), Waiting(calls_left=8, submitted_s=15.0)
    assert (50 - 8) / AGEING_CALLS_PER_S < 15
    assert queue(long, short).admit(running=6, now_s=15.0) == [long]


def test_a_narrow_row_does_not_overtake_a_wide_one_that_does_not_fit() -> None:
    wide, narrow = Waiting(calls_left=1), Waiting(calls_left=2, weight=1)
    rows = queue(wide, narrow)
    assert rows.admit(running=7, now_s=0) == []
    assert rows.admit(running=5, now_s=0) == [wide, narrow]


def test_a_row_wider_than_the_capacity_runs_alone() -> None:
    huge, small = Waiting(calls_left=1, weight=32), Waiting(calls_left=2)
    rows = queue(huge, small)
    assert rows.admit(running=2, now_s=0) == []
    assert rows.admit(running=0, now_s=0) == [huge]
    assert rows.admit(running=32, now_s=0) == []


def test_running_keys_take_turns() -> None:
    rows = queue()
    assert rows.next_key(()) is None
    assert [rows.next_key(["a", "b"]) for _ in range(4)] in (["a", "b"] * 2, ["b", "a"] * 2)
    assert rows.next_key(["a", "b", "c"]) == "c"


def test_past_the_bound_a_row_is_requeued_with_the_pending_seconds() -> None:
    rows = queue(max_queue_s=1.5)
    assert rows.admit(running=8, now_s=0) == []  # the batch is full
    rows.push(Waiting(calls_left=50))  # 50 calls x 2 lanes x 10 ms = 1 s
    with pytest.raises(Requeue, match=r"1\.0 s of work wait here in 1 rows") as caught:
        rows.push(Waiting(calls_left=50))
    assert caught.value.pending_s == pytest.approx(1.0)
    rows.push(Waiting(calls_left=20))
    assert len(rows) == 2


def test_what_starts_at_once_does_not_wait() -> None:
    rows = queue(max_queue_s=1.5)
    for _ in range(4):  # 4 x 2 lanes fill the 8, with 3 s of work each
        rows.push(Waiting(calls_left=150))
    with pytest.raises(Requeue):
        rows.push(Waiting(calls_left=150))
    assert len(rows.admit(running=0, now_s=0)) == 4


def test_the_cost_of_a_lane_is_learnt_from_full_batches() -> None:
    rows = queue()
    rows.observe(8, 80.0)
    assert rows.lane_call_s == 0.01  # nobody waited: the batch may have been small
    rows.push(Waiting())
    for _ in range(100):
        rows.observe(8, 0.16)
    assert rows.lane_call_s == pytest.approx(0.02, rel=1e-3)


def test_an_empty_queue_takes_a_row_of_any_length() -> None:
    assert len(queue(Waiting(calls_left=10_000), max_queue_s=0.1)) == 1


def test_gone_rows_are_taken_out() -> None:
    here, gone = Waiting(), Waiting()
    rows = queue(here, gone)
    gone.gone = True
    assert rows.drop_gone() == [gone]
    assert rows.take_all() == [here]
    assert len(rows) == 0


ROWS = st.lists(
    st.builds(
        Waiting,
        calls_left=st.integers(1, 150),
        weight=st.sampled_from([1, 2, 4.5, 20]),
        key=st.sampled_from("abc"),
        submitted_s=st.floats(0, 100),
    ),
    max_size=30,
)


@given(rows=ROWS, max_lanes=st.integers(2, 16))
def test_every_row_comes_out_once_and_capacity_is_never_exceeded(
    rows: list[Waiting], max_lanes: int
) -> None:
    waiting = queue(*rows, max_lanes=max_lanes)
    out: list[Waiting] = []
    while len(waiting):
        admitted = waiting.admit(running=0, now_s=100.0)
        assert admitted
        assert len(admitted) == 1 or sum(row.weight for row in admitted) <= max_lanes
        out += admitted
    assert sorted(map(id, out)) == sorted(map(id, rows))
