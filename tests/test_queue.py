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
    lanes: int = 2
    key: str = "a"
    submitted_s: float = 0.0
    gone: bool = False


def queue(*rows: Waiting, max_queue_s: float = 1e9) -> StepQueue[Any]:
    made: StepQueue[Any] = StepQueue(max_queue_s=max_queue_s, lane_call_s=0.01)
    for row in rows:
        made.push(row)
    return made


def test_fewest_calls_left_go_first() -> None:
    long, short = Waiting(calls_left=50), Waiting(calls_left=8)
    assert queue(long, short).admit("a", room=2, now_s=0) == [short]


def test_waiting_makes_a_long_row_urgent() -> None:
    long, short = Waiting(calls_left=50), Waiting(calls_left=8, submitted_s=15.0)
    assert (50 - 8) / AGEING_CALLS_PER_S < 15
    assert queue(long, short).admit("a", room=2, now_s=15.0) == [long]


def test_a_narrow_row_does_not_overtake_a_wide_one_that_does_not_fit() -> None:
    wide, narrow = Waiting(calls_left=1), Waiting(calls_left=2, lanes=1)
    rows = queue(wide, narrow)
    assert rows.admit("a", room=1, now_s=0) == []
    assert rows.admit("a", room=3, now_s=0) == [wide, narrow]


def test_keys_take_turns() -> None:
    rows = queue(Waiting(key="a"), Waiting(key="b"))
    assert {rows.next_key(()) for _ in range(2)} == {"a", "b"}
    rows.admit("a", room=8, now_s=0)
    rows.admit("b", room=8, now_s=0)
    assert rows.next_key(()) is None
    assert [rows.next_key(["a", "b"]) for _ in range(4)] in (["a", "b"] * 2, ["b", "a"] * 2)


def test_past_the_bound_a_row_is_requeued_with_the_pending_seconds() -> None:
    rows = queue(Waiting(calls_left=50), max_queue_s=1.5)  # 50 calls x 2 lanes x 10 ms = 1 s
    with pytest.raises(Requeue, match=r"1\.0 s of work wait here in 1 rows") as caught:
        rows.push(Waiting(calls_left=50))
    assert caught.value.pending_s == pytest.approx(1.0)
    rows.push(Waiting(calls_left=20))
    assert len(rows) == 2


def test_an_empty_queue_takes_a_row_of_any_length() -> None:
    assert len(queue(Waiting(calls_left=10_000), max_queue_s=0.1)) == 1


def test_gone_rows_are_taken_out() -> None:
    here, gone = Waiting(), Waiting()
    rows = queue(here, gone)
    gone.gone = True
    assert rows.drop_gone() == [gone]
    assert rows.admit("a", room=8, now_s=0) == [here]


ROWS = st.lists(
    st.builds(
        Waiting,
        calls_left=st.integers(1, 150),
        lanes=st.sampled_from([1, 2]),
        key=st.sampled_from("abc"),
        submitted_s=st.floats(0, 100),
    ),
    max_size=30,
)


@given(rows=ROWS, room=st.integers(2, 16))
def test_every_row_comes_out_once_and_room_is_never_exceeded(
    rows: list[Waiting], room: int
) -> None:
    waiting = queue(*rows)
    out: list[Waiting] = []
    while (key := waiting.next_key(())) is not None:
        admitted = waiting.admit(key, room=room, now_s=100.0)
        assert admitted
        assert sum(row.lanes for row in admitted) <= room
        assert all(row.key == key for row in admitted)
        out += admitted
    assert sorted(map(id, out)) == sorted(map(id, rows))
