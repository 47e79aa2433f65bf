"""Fixtures that several test files share."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from deployments.diffusion.families.family import Family
from deployments.diffusion.model_files import EMBEDDED
from tests.service import Service, running_service
from tests.tiny_model import open_model, save_tiny_model

# No example fails for the machine that it runs on.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    """The tiny models gain nothing from a second thread, and two test processes would fight."""
    torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--all"):
        skip = pytest.mark.skip(reason="slow: scripts/test --all runs it")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion with an AutoencoderKL, epsilon prediction."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_family(tiny_folder: Path) -> Family:
    return open_model(tiny_folder)


@pytest.fixture(scope="session")
def embedded_family() -> Family:
    """The model that ships with the package."""
    return open_model(EMBEDDED)


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The whole graph of configs/local.yaml on a real Ray Serve, with the embedded model."""
    with running_service() as service:
        yield service


@pytest.fixture
def handlers_stay() -> Iterator[None]:
    """A replica gives our logger Serve's handlers, in a process of its own."""
    logger = logging.getLogger("deployments")
    before = list(logger.handlers)
    yield
    logger.handlers[:] = before
