"""What takes another's place: the ledger after one that died, and a new replica of the ingress."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray import serve

from deployments.ingress.deployment import Ingress
from deployments.ingress.settings import IngressSettings
from tests.ingress_backend import CARD
from tests.moody import Moody
from tests.mortal import AsksLedger, Late, MortalLedger
from tests.service import WAIT_S, Service


@pytest.fixture
def bereft(service: Service, tmp_path: Path) -> Iterator[Any]:
    """Asks a ledger that dies of the first thing that it is asked."""
    deployment: Any = serve.deployment
    graph = deployment(AsksLedger).bind(deployment(MortalLedger).bind(tmp_path / "lives"))
    yield serve.run(graph, name="bereft", route_prefix=None)
    serve.delete("bereft")


@pytest.mark.slow
def test_a_stream_of_a_job_goes_on_at_the_next_ledger(bereft: Any, tmp_path: Path) -> None:
    # What the first tells just before it dies may die with it.
    assert bereft.states.remote().result(timeout_s=WAIT_S)[-2:] == ["waiting", "cancelled"]
    assert (tmp_path / "lives").read_text() == "xx"


@pytest.mark.slow
def test_a_lease_is_taken_again_at_the_next_ledger(bereft: Any, tmp_path: Path) -> None:
    bereft.lease.remote().result(timeout_s=WAIT_S)
    assert (tmp_path / "lives").read_text() == "xx"


@pytest.fixture
def newcomer(service: Service) -> Iterator[Any]:
    """An ingress replica whose model keeps it waiting."""
    deployment: Any = serve.deployment
    late, other = deployment(Late).bind(4), deployment(Moody).bind()
    graph = deployment(Ingress).bind(IngressSettings(), {CARD.id: late}, other, other)
    yield serve.run(graph, name="newcomer", route_prefix="/newcomer")
    serve.delete("newcomer")


def test_an_ingress_replica_knows_its_models_before_it_is_asked(newcomer: Any) -> None:
    assert newcomer.cards.remote().result(timeout_s=WAIT_S) == {CARD.id: CARD}
