"""Rows that replicas give back are offered again: real handles, and replicas that are moody."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import serve
from ray.exceptions import OutOfMemoryError, RayTaskError
from ray.serve.exceptions import BackPressureError

from deployments.dispatch import LOSSES, OFFERS, _Offers, _Prepared
from deployments.errors import GenerationFailed, ImagingFull, ReplicaLost, Requeue
from deployments.meter import UNREAD
from deployments.requests import Progress
from tests.moody import REQUEST, Asks, Deadly, Moody
from tests.rows import make_result
from tests.service import WAIT_S, Service


@pytest.fixture(scope="module")
def asks(service: Service) -> Iterator[Any]:
    deployment: Any = serve.deployment  # to mypy it makes nothing that can be bound
    graph = deployment(Asks).bind(deployment(Moody).bind())
    yield serve.run(graph, name="dispatch", route_prefix=None)
    serve.delete("dispatch")


def full(times: int) -> list[Exception]:
    return [Requeue("full", pending_s=0.01)] * times


@pytest.mark.parametrize("patience_s", [None, 0.0])
def test_a_full_replica_is_not_the_last_word(asks: Any, patience_s: float | None) -> None:
    asked = asks.offers.remote(full(OFFERS - 1), patience_s)
    assert asked.result(timeout_s=WAIT_S) == OFFERS


def test_a_row_whose_engine_died_is_made_elsewhere(asks: Any) -> None:
    asked = asks.offers.remote([ReplicaLost("the engine has died")], None)
    assert asked.result(timeout_s=WAIT_S) == 2


@pytest.mark.parametrize(
    ("refusal", "times"),
    [
        (RayTaskError("generate", "", Requeue("the model is full")), 1),
        (RayTaskError("prepare", "", ImagingFull("imaging is full")), 2),
        (BackPressureError(num_queued_requests=1, max_queued_requests=1), 2),
        (OutOfMemoryError("the node's memory"), 2),
    ],
    ids=lambda value: type(getattr(value, "cause", value)).__name__,
)
def test_an_image_is_prepared_again_where_it_may_be_lost(refusal: Exception, times: int) -> None:
    class Imaging:
        calls = 0

        @property
        def prepare(self) -> "Imaging":
            return self

        def remote(self, *asked: object) -> object:
            self.calls += 1
            return object()

    async def refused_once() -> int:
        imaging: Any = Imaging()
        prepared = _Prepared(imaging, replace(REQUEST, image=b"an image"))
        offers = _Offers(REQUEST.rows[0], UNREAD)
        first = prepared.of(offers)
        await offers.refused(refusal)
        assert (prepared.of(offers) is first) == (times == 1)
        calls: int = imaging.calls
        return calls

    assert asyncio.run(refused_once()) == times


@pytest.mark.parametrize("patience_s", [None, 0.0])
def test_who_cannot_wait_hears_that_all_are_full(asks: Any, patience_s: float | None) -> None:
    with pytest.raises(Requeue, match="full"):
        asks.offers.remote(full(OFFERS), patience_s).result(timeout_s=WAIT_S)


def test_who_can_wait_is_served_in_the_end(asks: Any) -> None:
    asked = asks.offers.remote(full(OFFERS + 1), 60.0)
    assert asked.result(timeout_s=WAIT_S) == OFFERS + 2


def test_a_row_that_would_fail_again_is_offered_once(asks: Any) -> None:
    with pytest.raises(GenerationFailed):
        asks.offers.remote([GenerationFailed("not numbers")], None).result(timeout_s=WAIT_S)


@pytest.fixture
def offers(tmp_path: Path) -> Path:
    """Has a letter for every row that was offered."""
    return tmp_path / "offers"


@pytest.fixture
def deadly(service: Service, offers: Path) -> Iterator[Callable[[int], Any]]:
    """Asks replicas of which so many die."""

    def run(deaths: int) -> Any:
        deployment: Any = serve.deployment
        graph = deployment(Asks).bind(deployment(num_replicas=2)(Deadly).bind(offers, deaths))
        return serve.run(graph, name="deadly", route_prefix=None)

    yield run
    serve.delete("deadly")


def test_a_row_that_loses_its_replica_is_made_on_another(
    deadly: Callable[[int], Any], offers: Path
) -> None:
    asks = deadly(1)
    pictures = asks.generate.remote().result(timeout_s=WAIT_S)
    assert pictures == [make_result(REQUEST.rows[0].id)]
    assert len(offers.read_text()) == 2


def test_who_watches_a_row_that_loses_its_replica_hears_nothing_twice(
    deadly: Callable[[int], Any], offers: Path
) -> None:
    *progress, picture = deadly(1).told.remote().result(timeout_s=WAIT_S)
    assert [each.call for each in progress if isinstance(each, Progress)] == [0, 1, 2]
    assert picture == make_result(REQUEST.rows[0].id)
    assert len(offers.read_text()) == 2


def test_a_row_that_kills_its_replicas_is_repeated_once(
    deadly: Callable[[int], Any], offers: Path
) -> None:
    asks = deadly(LOSSES)
    with pytest.raises(ReplicaLost):
        asks.generate.remote().result(timeout_s=WAIT_S)
    assert len(offers.read_text()) == LOSSES
