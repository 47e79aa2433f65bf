"""Rows that replicas give back are offered again: real handles, and replicas that are moody."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray import serve

from deployments.dispatch import LOSSES, OFFERS
from deployments.errors import GenerationFailed, ReplicaLost, Requeue
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
