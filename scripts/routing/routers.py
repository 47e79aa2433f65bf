"""The routers that are compared."""

from __future__ import annotations

from typing import Any

from serve_app.config import ModelDeployment
from serve_app.routing import ROUTER, WorkRouter


class OfTwo(WorkRouter):
    """Asks two replicas only."""

    asked = 2


SERVE, OURS = "power_of_two", "work"
ROUTERS = {
    SERVE: None,
    OURS: ROUTER,
    "work, two asked": f"{__name__}:OfTwo",
}
"""By name, the class; None is Serve's own."""


def serve_options(router: str, replicas: int) -> dict[str, Any]:
    """Of the model's deployment."""
    options = ModelDeployment(
        num_replicas=replicas,
        num_cpus=0.5,
        max_ongoing_requests=1024,
        graceful_shutdown_wait_loop_s=0.1,
        routing="power_of_two",
    ).as_serve_options()
    if ROUTERS[router] is not None:
        options["request_router_config"] = {"request_router_class": ROUTERS[router]}
    return options
