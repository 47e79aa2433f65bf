"""Replicas follow the work: the policy alone, and under Serve's own delays in simulated time."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.serve import autoscaling_policy
from ray.serve._private.common import DeploymentID
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from deployments.diffusion.work import WorkMeter
from serve_app.autoscaling import LOAD, WAITING, WorkPolicy, wanted_replicas

TARGET_WAIT_S, MAX_LOAD = 5.0, 0.8
SECONDS = st.floats(0, 1e6)
LOADS = st.floats(0, 1e3)


def wanted(waiting_s: float, load: float) -> float:
    return wanted_replicas(waiting_s, load, target_wait_s=TARGET_WAIT_S, max_load=MAX_LOAD)


@given(waiting_s=SECONDS, load=LOADS, more=st.floats(0, 1e3))
def test_more_work_never_takes_fewer_replicas(waiting_s: float, load: float, more: float) -> None:
    assert wanted(waiting_s + more, load) >= wanted(waiting_s, load)
    assert wanted(waiting_s, load + more) >= wanted(waiting_s, load)


@given(waiting_s=SECONDS, load=LOADS)
def test_so_many_keep_up_and_work_off_what_waits_in_time(waiting_s: float, load: float) -> None:
    replicas = math.ceil(wanted(waiting_s, load))
    assert replicas * MAX_LOAD >= load * (1 - 1e-9)
    spare = replicas - load
    assert waiting_s <= spare * TARGET_WAIT_S * (1 + 1e-9) + 1e-6


def test_nothing_to_do_wants_nobody() -> None:
    assert wanted(0, 0) == 0


def context(told: dict[str, dict[Any, float]] | None, **changes: Any) -> AutoscalingContext:
    fields: dict[str, Any] = {
        "deployment_id": DeploymentID(name="diffusion-sd15", app_name="stepwise"),
        "deployment_name": "diffusion-sd15",
        "app_name": "stepwise",
        "current_num_replicas": 2,
        "target_num_replicas": 2,
        "running_replicas": [],
        "total_num_requests": 4.0,
        "total_queued_requests": 0.0,
        "aggregated_metrics": told,
        "raw_metrics": {},
        "capacity_adjusted_min_replicas": 1,
        "capacity_adjusted_max_replicas": 8,
        "policy_state": {},
        "last_scale_up_time": None,
        "last_scale_down_time": None,
        "current_time": 0.0,
        "config": AutoscalingConfig(min_replicas=1, max_replicas=8),
    }
    return AutoscalingContext(**{**fields, **changes})


POLICY = WorkPolicy(target_wait_s=TARGET_WAIT_S, max_load=MAX_LOAD)


@pytest.mark.parametrize("told", [None, {}, {WAITING: {}, LOAD: {}}])
def test_before_anybody_has_reported_nothing_changes(told: dict[str, Any] | None) -> None:
    assert POLICY(context(told)) == (2, {})


@given(
    shares=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1)), min_size=1, max_size=8),
)
def test_it_does_not_matter_who_has_the_work(shares: list[tuple[float, float]]) -> None:
    told = {
        WAITING: {i: waiting_s for i, (waiting_s, _) in enumerate(shares)},
        LOAD: {i: load for i, (_, load) in enumerate(shares)},
    }
    together = wanted(sum(told[WAITING].values()), sum(told[LOAD].values()))
    assert POLICY(context(told))[0] == pytest.approx(together)


class Fleet:
    """Replicas that work off a stream of work, second by second, under Serve's own delays."""

    START_S = 40
    """From the decision until a new replica works."""
    REPORT_S = 10
    """Serve's period."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **config: Any) -> None:
        self.now_s, self.waiting_s = 0, 0.0
        self.target, self.starting = 1, list[int]()
        self.running = 1
        self.waits: list[float] = []
        self.targets: list[int] = []
        self._config = AutoscalingConfig(min_replicas=1, max_replicas=8, **config)
        self._decide = autoscaling_policy._apply_autoscaling_config(POLICY)
        self._state: dict[str, Any] = {}
        self._told = {WAITING: {0: 0.0}, LOAD: {0: 0.0}}
        monkeypatch.setattr("ray.serve.autoscaling_policy.time.time", lambda: float(self.now_s))

    def run(self, seconds: int, demand: Callable[[int], float]) -> None:
        """`demand` is the work that arrives in a second, in seconds of one replica."""
        for _ in range(seconds):
            self.now_s += 1
            self.running += sum(ready == self.now_s for ready in self.starting)
            self.running = min(self.running, max(self.target, 1))
            self.waiting_s += demand(self.now_s)
            done = min(self.waiting_s, float(self.running))
            self.waiting_s -= done
            self.waits.append(self.waiting_s / self.running)
            if self.now_s % self.REPORT_S == 0:
                self._told = {WAITING: {0: self.waiting_s}, LOAD: {0: done}}
            self._scale()
            self.targets.append(self.target)

    def _scale(self) -> None:
        ctx = context(
            self._told,
            current_num_replicas=self.running,
            target_num_replicas=self.target,
            policy_state=self._state,
            config=self._config,
        )
        decided, self._state = self._decide(ctx)
        decided = min(max(decided, 1), 8)
        self.starting += [self.now_s + self.START_S] * (decided - self.target)
        self.target = decided

    @property
    def changes(self) -> int:
        return sum(a != b for a, b in zip(self.targets, self.targets[1:], strict=False))


def test_a_step_in_load_is_followed_and_waits_come_down(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(monkeypatch, upscale_delay_s=15, downscale_delay_s=120)
    fleet.run(300, lambda _: 0.2)
    assert fleet.target == 1
    fleet.run(600, lambda _: 3.0)
    followed = next(i for i, n in enumerate(fleet.targets[300:]) if n >= 4)
    assert followed <= fleet.REPORT_S + 15 + 5
    assert max(fleet.waits) > TARGET_WAIT_S > fleet.waits[-1]
    assert 4 <= fleet.target <= 5, "enough for the load, and no more once the backlog is gone"
    fleet.run(600, lambda _: 0.2)
    assert fleet.target == 1
    assert fleet.waits[-1] == 0


def test_noisy_constant_load_does_not_flap(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(monkeypatch, upscale_delay_s=15, downscale_delay_s=120)
    noise = random.Random(0)
    fleet.run(300, lambda _: max(0.0, noise.gauss(2.2, 0.5)))
    before = fleet.changes
    fleet.run(600, lambda _: max(0.0, noise.gauss(2.2, 0.5)))
    assert fleet.changes - before <= 1
    assert sorted(fleet.waits[300:])[int(0.99 * 600)] < TARGET_WAIT_S


def test_a_meter_gives_the_load_since_it_was_last_asked() -> None:
    meter = WorkMeter(100.0)
    assert meter.load(5.0, 110.0) == 0.5
    assert meter.load(5.0, 120.0) == 0
    assert meter.load(15.0, 130.0) == 1
    assert meter.load(16.0, 130.0) == 0, "asked twice at once"
