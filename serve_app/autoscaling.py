"""How many replicas a model needs: by work, not by the number of requests.

Serve calls the policy on its controller, where neither torch nor a model is. Its delays, factors
and bounds are Serve's own and apply to what this gives.
"""

from collections.abc import Mapping
from typing import Any

POLICY = f"{__name__}:WorkPolicy"
"""For Serve's `policy_function`."""

WAITING, LOAD = "waiting_s", "load"
"""What each replica reports of itself."""


def wanted_replicas(
    waiting_s: float, load: float, *, target_wait_s: float, max_load: float
) -> float:
    """Replicas that do what is asked of them, and besides work off in time what has piled up.

    `waiting_s` is the work that waits, in seconds of one replica, and `load` the work that is being
    done, in replicas; both are of all replicas together, so that neither depends on how many there
    are. A replica is meant to be busy for `max_load` of its time, and nobody to wait for longer
    than `target_wait_s`.
    """
    return load / max_load + waiting_s / target_wait_s


class WorkPolicy:
    """The same as a policy of Serve's."""

    def __init__(self, target_wait_s: float, max_load: float) -> None:
        self._target_wait_s, self._max_load = target_wait_s, max_load

    def __call__(self, ctx: Any) -> tuple[float, dict[str, Any]]:
        """`ctx` is Serve's AutoscalingContext. Before any replica has reported, nothing changes."""
        told = ctx.aggregated_metrics or {}
        if not told.get(LOAD):
            return ctx.target_num_replicas, {}
        wanted = wanted_replicas(
            _total(told, WAITING),
            _total(told, LOAD),
            target_wait_s=self._target_wait_s,
            max_load=self._max_load,
        )
        return wanted, {}


def _total(told: Mapping[str, Mapping[Any, float]], name: str) -> float:
    return sum(told.get(name, {}).values())
