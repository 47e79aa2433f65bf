"""Rows go where the least work is: the choice alone, what a caller knows, and a real Serve."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.diffusion.deployment import Diffusion
from deployments.diffusion.families.family import Family
from deployments.diffusion.report import WorkReport
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.stats import EngineStats
from deployments.requests import AdapterUse, ImageResult, Row
from serve_app.choice import ASKED, Prospect, preferred, to_ask
from serve_app.config import ModelDeployment
from serve_app.replica_work import A_MOMENT_S, ReplicaWork
from serve_app.routing import ROUTER
from tests.driving import driven, wait_until_waiting
from tests.rows import make_prepared, make_row
from tests.service import WAIT_S, Service

SEEDS = st.integers(0, 2**32)
PROSPECTS = st.lists(
    st.builds(
        Prospect,
        full=st.floats(0, 1) | st.just(1.0),
        work_s=st.floats(0, 1e4),
        read_s=st.sampled_from([0.0, 0.5, 1.0]),
        refused=st.booleans(),
    ),
    min_size=1,
    max_size=9,
)


def fresh_of(of: list[Prospect]) -> list[Prospect]:
    """Those that the row has not met, or all."""
    return [each for each in of if not each.refused] or of


def first_of(of: list[Prospect], seed: int) -> Prospect:
    return of[preferred(of, Random(seed))[0]]


# The choice


@given(of=PROSPECTS, seed=SEEDS)
def test_every_one_that_was_asked_is_tried_in_the_end(of: list[Prospect], seed: int) -> None:
    assert sorted(preferred(of, Random(seed))) == list(range(len(of)))


@given(of=PROSPECTS, seed=SEEDS, most=st.integers(1, 9))
def test_known_replicas_are_asked_and_no_more_than_may(
    of: list[Prospect], seed: int, most: int
) -> None:
    places = to_ask(of, Random(seed), most)
    assert len(set(places)) == len(places)
    assert set(places) <= set(range(len(of)))
    assert min(most, len(fresh_of(of))) <= len(places) <= 2 * most


@given(of=PROSPECTS, seed=SEEDS)
def test_some_of_those_with_the_adapters_are_always_asked(of: list[Prospect], seed: int) -> None:
    least_s = min(each.read_s for each in fresh_of(of))
    assert least_s in {of[place].read_s for place in to_ask(of, Random(seed), 1)}


@given(of=PROSPECTS, seed=SEEDS)
def test_nobody_gets_a_row_who_is_fuller_and_has_more_to_do(of: list[Prospect], seed: int) -> None:
    first = first_of(of, seed)
    for each in fresh_of(of):
        dominates = each.full < first.full and each.cost_s < first.cost_s
        assert not dominates or first.read_s < each.read_s


@given(of=PROSPECTS, seed=SEEDS)
def test_of_full_ones_it_is_that_with_the_least_to_do(of: list[Prospect], seed: int) -> None:
    of = [each._replace(full=1.0) for each in of]
    assert first_of(of, seed).cost_s == min(each.cost_s for each in fresh_of(of))


@given(of=PROSPECTS, seed=SEEDS)
def test_a_row_leaves_its_adapters_only_where_waiting_takes_longer_than_reading(
    of: list[Prospect], seed: int
) -> None:
    first, fresh = first_of(of, seed), fresh_of(of)
    least_s = min(each.read_s for each in fresh)
    stay_s = min(each.cost_s for each in fresh if each.read_s == least_s)
    if first.read_s > least_s:
        assert any(each.cost_s < stay_s for each in fresh)


@given(of=PROSPECTS, seed=SEEDS)
def test_who_came_back_goes_where_it_has_not_been(of: list[Prospect], seed: int) -> None:
    order = preferred(of, Random(seed))
    assert [of[place].refused for place in order] == sorted(each.refused for each in of)
    asked = [of[place].refused for place in to_ask(of, Random(seed))]
    assert all(asked) or not any(asked)
    assert all(asked) == all(each.refused for each in of)


def test_chance_decides_between_equals() -> None:
    random = Random(0)
    firsts = Counter(preferred([Prospect()] * 4, random)[0] for _ in range(4000))
    assert all(900 < firsts[place] < 1100 for place in range(4))
    asked = Counter(place for _ in range(2000) for place in to_ask([Prospect()] * 8, random))
    assert sum(asked.values()) == 2000 * ASKED
    assert all(900 < asked[place] < 1100 for place in range(8))


# What a caller knows


def report(**changes: Any) -> WorkReport:
    """Of a replica with four lanes, where the rows below take two of them and 0.1875 s."""
    fields: dict[str, Any] = {
        "at": 100.0,
        "rows": 0,
        "work_s": 0.0,
        "lanes": 0.0,
        "limit": 4.0,
        "lane_call_s": 1 / 64,
        "unit_pixels": 64 * 64,
        "lanes_of_row": 2,
        "adapters": (),
        "read_s": 0.0,
    }
    return WorkReport(**{**fields, **changes})


def row(number: int, *names: str) -> Row:
    return make_row(id=f"row-{number}", adapters=tuple(AdapterUse(name, 1.0) for name in names))


def test_who_has_told_nothing_has_nothing_to_do() -> None:
    work = ReplicaWork()
    work.note(row(1), 0.0)
    assert work.prospect(row(2), 0.1) == Prospect()
    assert work.prospect(row(2, "ink", "oil"), 0.1, read_s=2.0) == Prospect(read_s=4.0)


def test_what_was_sent_counts_until_the_replica_is_asked_again() -> None:
    work = ReplicaWork()
    work.hear(report(work_s=1.0, lanes=1.0), asked_at=10.0)
    work.note(row(1), 10.1)
    work.note(row(1), 10.2)  # Serve says where it went
    assert work.prospect(row(2), 10.3) == Prospect(full=0.75, work_s=1.1875)
    work.note(row(3), 10.3)
    assert work.prospect(row(2), 10.3) == Prospect(full=1.0, work_s=1.375)
    work.hear(report(work_s=1.0, lanes=1.0), asked_at=10.35)
    assert work.prospect(row(2), 10.4).full == 1.0, "the same again: they have not arrived"
    work.hear(report(work_s=1.5, lanes=3.0, at=101.0), asked_at=10.2)
    assert work.prospect(row(2), 10.5) == Prospect(full=1.0, work_s=1.6875)


def test_what_serve_hands_on_is_heard_if_it_is_news() -> None:
    work = ReplicaWork()
    work.hear(report(work_s=1.0, at=101.0), asked_at=10.0)
    work.hear(report(work_s=2.0, at=100.0))
    assert work.prospect(row(1), 10.1).work_s == 1.0
    work.hear(report(work_s=3.0, at=102.0))
    assert work.prospect(row(1), 10.1).work_s == 3.0


def test_a_row_that_comes_back_at_once_was_refused() -> None:
    work = ReplicaWork()
    work.hear(report(), asked_at=10.0)
    work.note(row(1), 10.1)
    work.hear(report(at=101.0), asked_at=10.2)
    assert work.prospect(row(1), 10.3).refused
    assert not work.prospect(row(2), 10.3).refused
    assert not work.prospect(row(1), 10.1 + A_MOMENT_S).refused


def test_a_row_on_its_way_for_long_has_arrived() -> None:
    work = ReplicaWork()
    work.hear(report(), asked_at=10.0)
    work.note(row(1), 10.1)
    assert work.prospect(row(2), 10.2).full == 0.5
    assert work.prospect(row(2), 10.1 + A_MOMENT_S).full == 0.0


def test_adapters_on_their_way_count_as_there() -> None:
    work = ReplicaWork()
    work.hear(report(adapters=("oil",)), asked_at=10.0)
    wanted = row(0, "ink", "oil", "tar")
    assert work.prospect(wanted, 10.0, read_s=0.5).read_s == 1.0
    work.note(row(1, "ink"), 10.1)
    assert work.prospect(wanted, 10.2, read_s=0.5).read_s == 0.5


@given(
    lanes=st.lists(st.integers(0, 4), min_size=2, max_size=4),
    rows=st.integers(1, 40),
    seed=SEEDS,
)
def test_rows_that_come_together_spread(lanes: list[int], rows: int, seed: int) -> None:
    """All ask at the same moment; what the caller itself has sent is all that tells them apart."""
    replicas, random = [ReplicaWork() for _ in lanes], Random(seed)
    for replica, taken in zip(replicas, lanes, strict=True):
        replica.hear(report(lanes=float(taken), work_s=0.09375 * taken), asked_at=10.0)
    for number in range(rows):
        met = [replica.prospect(row(number), 10.1) for replica in replicas]
        replicas[preferred(met, random)[0]].note(row(number), 10.1)
    ends = [replica.prospect(row(-1), 10.1).work_s for replica in replicas]
    assert max(ends) <= max(min(ends) + 0.1875, 0.09375 * max(lanes)) + 1e-9


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"guidance_scale": 1.0},
        {"guidance_start": 0.5},
        {"num_inference_steps": 10, "strength": 0.5},
        {"width": 128},
        {"width": 32, "height": 32},
    ],
    ids=str,
)
def test_a_row_costs_about_what_its_replica_reports_at_once(
    tiny_family: Family, changes: dict[str, Any]
) -> None:
    prepared = make_prepared(0) if "strength" in changes else None
    with driven(tiny_family, clock=lambda: 0.0) as engine:  # so that no step seems slow
        before = engine.work_report(1.0)
        assert (before.at, before.rows, before.work_s) == (1.0, 0, 0.0)
        wanted = make_row(**changes)
        settle = Event()
        engine._reception._thread.submit(settle.wait)
        engine.submit(wanted, prepared)
        arriving = engine.work_report(2.0)
        settle.set()
        wait_until_waiting(engine, 1)
        after = engine.work_report(2.0)
        assert arriving == after
        assert after.rows == 1
        assert after.work_s == pytest.approx(before.work_of(wanted))
        assert after.lanes == before.lanes_of(wanted)
        engine.step()
        running = engine.work_report(3.0)
        assert 0 < running.work_s < after.work_s


@pytest.mark.usefixtures("handlers_stay")
def test_who_has_nothing_new_to_say_repeats_itself(tiny_folder: Path) -> None:
    """Serve tells every caller whenever a report differs."""

    async def run() -> None:
        settings = DiffusionSettings(
            id="tiny",
            source=str(tiny_folder),
            device="cpu",
            threads=1,
            cache_folder=str(tiny_folder.parent / "cache"),
        )
        diffusion = Diffusion(settings)
        first = diffusion.record_routing_stats()
        assert diffusion.record_routing_stats() == first
        assert msgspec.convert(first, WorkReport).rows == 0
        await diffusion.generate(make_row())
        later = msgspec.convert(diffusion.record_routing_stats(), WorkReport)
        assert (later.rows, later.work_s) == (1, 0)
        diffusion._worker.close()
        with pytest.raises(RuntimeError, match="thread has died"):
            diffusion.record_routing_stats()  # no row is sent where none is made
        assert first["at"] < later.at <= time.time()

    asyncio.run(run())


# On Serve


def test_a_config_can_say_which() -> None:
    ours = ModelDeployment().as_serve_options()["request_router_config"]
    assert ours == {"request_router_class": ROUTER}
    plain = ModelDeployment(routing="power_of_two").as_serve_options()
    assert "request_router_config" not in plain


STEP_S = 0.5


@pytest.fixture
def two_replicas(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Of an engine with room for one row, which takes its time for a step."""
    monkeypatch.setattr("serve_app.routing.ANSWER_WITHIN_S", 60.0)  # the machine may be busy
    curve = {"lanes": [2], "step_s": [STEP_S], "encode_image_s": 0.001, "decode_s": 0.001}
    pace = {"device": "slow", "model": "m", "origin": "computed, not measured: for a test"}
    (tmp_path / "pace.json").write_bytes(
        msgspec.json.encode({**pace, "native_side": 64, "prompt_s": 0.0, "curve": curve})
    )
    settings = DiffusionSettings(
        id="slow",
        source="paced",
        pace=str(tmp_path / "pace.json"),
        lane_buckets=(2,),
        threads=1,
        cache_folder=str(tmp_path),
        max_queue_s=1000,
    )
    options = ModelDeployment(
        num_replicas=2, num_cpus=0.5, graceful_shutdown_wait_loop_s=0.1
    ).as_serve_options()
    deployment: Any = serve.deployment  # to mypy it makes nothing that can be bound
    app = deployment(name="slow", **options)(Diffusion).bind(settings)
    serve.run(app, name="routed", route_prefix=None)
    yield
    serve.delete("routed")


def caller() -> Any:
    """A handle with a router of its own, as each ingress replica has one."""
    return DeploymentHandle("slow", "routed")


def stats(handle: Any) -> list[EngineStats]:
    """Of both replicas, the one with more rows last."""
    found: list[EngineStats] = handle.broadcast("stats").results(timeout_s=WAIT_S)
    return sorted(found, key=rows_at)


def rows_at(replica: EngineStats) -> int:
    return replica.running + replica.waiting


def slow_row(number: int, steps: int) -> Any:
    changed = make_row(seed=number, num_inference_steps=steps, scheduler="Euler")
    return replace(changed, id=f"{number}")


async def streamed(handle: Any, wanted: Any) -> ImageResult:
    """The last of what a streamed call gives."""
    items = [each async for each in handle.generate_with_progress.remote(wanted)]
    result: ImageResult = items[-1]
    return result


@pytest.mark.slow
@pytest.mark.usefixtures("two_replicas")
def test_short_rows_go_where_more_rows_but_less_work_are() -> None:
    one, other = caller(), caller()
    # 75 s of work in one row, and 30 s in three, which therefore go elsewhere.
    long = [one.generate.remote(slow_row(0, 150))]
    long += [one.generate.remote(slow_row(number, 20)) for number in (1, 2, 3)]
    while sum(map(rows_at, stats(one))) < 4:
        pass  # they are on their way
    assert [rows_at(each) for each in stats(one)] == [1, 3]

    short = [other.generate.remote(slow_row(number, 1)) for number in range(4, 8)]
    for call in short:
        call.result(timeout_s=WAIT_S)
    asyncio.run(streamed(other.options(stream=True), slow_row(8, 1)))
    few, many = stats(other)
    assert (few.finished, many.finished) == (0, 5)

    # The same row again is one that was refused: it goes to the replica that it has not met.
    for call in [other.generate.remote(slow_row(9, 1)) for _ in range(2)]:
        call.result(timeout_s=WAIT_S)
    few, many = stats(other)
    assert (few.finished, many.finished) == (1, 6)
    for call in long:
        call.cancel()
