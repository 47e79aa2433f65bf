"""Rows that replicas give back are offered again: real handles, and replicas that are moody."""

from collections.abc import Iterator
from typing import Any

import pytest
from ray import serve

from deployments.dispatch import OFFERS
from deployments.errors import GenerationFailed, Requeue
from tests.moody import Asks, Moody
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
