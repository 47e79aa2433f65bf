"""A replica that is told to stop gets the time that its rows may need, or says that it does not."""

import asyncio
import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.diffusion.capacity import Capacity
from deployments.diffusion.deployment import Diffusion
from deployments.diffusion.drain import CALLS_PER_STEP, check_grace, longest_row_s
from deployments.diffusion.families.family import Family
from deployments.diffusion.samplers import FLOW_SAMPLERS, SAMPLERS
from deployments.diffusion.sampling import FlowShift, StepTables
from deployments.diffusion.settings import DiffusionSettings
from tests.driving import make_curve
from tests.ingress_backend import CARD

MAX_LANES = 16
"""Whose step takes 0.16 s on `make_curve`'s."""


def longest(**changes: object) -> float:
    card = replace(
        CARD, default_width=512, default_height=512, sizes=(), max_side=512, max_steps=50
    )
    capacity = Capacity(make_curve([1, 2, 4, 8, MAX_LANES]), max_lanes=MAX_LANES)
    return longest_row_s(replace(card, **changes), capacity)  # type: ignore[arg-type]


def test_the_longest_row_has_most_steps_in_a_full_batch() -> None:
    assert longest() == pytest.approx(CALLS_PER_STEP * 50 * 0.16)
    assert longest(max_steps=100) == pytest.approx(2 * longest())


def test_a_row_that_is_wider_than_a_batch_takes_longer_than_one() -> None:
    assert longest(max_side=1024) == longest()  # twice four lanes: half of a batch
    assert longest(max_side=2048) == pytest.approx(2 * longest())  # 32 lanes
    assert longest(max_side=2048, sizes=((512, 512), (512, 1024))) == longest()


@pytest.mark.parametrize("grace_s", [60.0, 68.0])
def test_a_grace_that_is_too_short_is_told_with_all_figures(
    grace_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    settings = DiffusionSettings(id="tiny", source="tiny", max_queue_s=30, max_steps=80)
    check_grace(settings, longest_s=34.0, grace_s=grace_s)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    told = [f"graceful_shutdown_timeout_s is {grace_s:g}", "may need 68 s", "max_queue_s is 30"]
    for words in (*told, "34 s for the longest row", "max_steps is 80", "set it above that"):
        assert words in record.message


def test_a_grace_that_is_long_enough_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    settings = DiffusionSettings(id="tiny", source="tiny", max_queue_s=30)
    check_grace(settings, longest_s=10.0, grace_s=40.5)
    assert not caplog.records


@pytest.mark.usefixtures("handlers_stay")
def test_a_replica_holds_its_grace_against_what_it_has_measured(
    tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = DiffusionSettings(
        id="tiny",
        source=str(tiny_folder),
        device="cpu",
        threads=1,
        max_queue_s=0.001,
        cache_folder=str(tiny_folder.parent / "cache"),
    )

    async def replica() -> None:
        Diffusion(settings, grace_s=0.002)

    asyncio.run(replica())
    # Once, though pytest's handler is on Serve's logger too.
    [told] = {record.message for record in caplog.records if "graceful" in record.message}
    assert re.search(r"graceful_shutdown_timeout_s is 0\.002: .* may need \d+ s", told)


def test_no_sampler_takes_more_calls(embedded_family: Family) -> None:
    tables = StepTables(embedded_family.scheduler_config)
    flow_tables = StepTables({"shift": 3.0}, FLOW_SAMPLERS)
    # How its noise levels are spaced changes no sampler's calls: one name of each class.
    names = {sampler.scheduler: name for name, sampler in SAMPLERS.items()}
    flow_names = {sampler.scheduler: name for name, sampler in FLOW_SAMPLERS.items()}
    calls = [tables.text_to_image(name, 10).calls for name in names.values()]
    calls += [
        flow_tables.text_to_image(name, 10, FlowShift()).calls for name in flow_names.values()
    ]
    assert 10 < max(calls) <= CALLS_PER_STEP * 10
