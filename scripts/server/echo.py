"""A bare Ray Serve app of two deployments: the least that an ingress before a model can be."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

INGRESS_OPTIONS: dict[str, Any] = {
    "max_ongoing_requests": 256,
    "ray_actor_options": {"num_cpus": 0.25},
    "graceful_shutdown_wait_loop_s": 0.1,
}
MODEL_OPTIONS: dict[str, Any] = {
    "max_ongoing_requests": 1024,
    "ray_actor_options": {"num_cpus": 0.5},
    "graceful_shutdown_wait_loop_s": 0.1,
}
"""As configs/local.yaml has them for the ingress and for the model."""


class Echo:
    """Takes the bytes of a body, gives the bytes of an answer."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    async def answer(self, body: bytes) -> bytes:
        """Always the same one."""
        return self._answer


class EchoIngress:
    """Hands bodies on and answers back, and looks into neither."""

    def __init__(self, echo: DeploymentHandle[Any]) -> None:
        self._echo = echo

    async def __call__(self, request: Request) -> Response:
        """Any path and method."""
        answer = await self._echo.answer.remote(await request.body())
        return Response(answer, media_type="application/json")


def graph(answer: bytes, *, ingress_replicas: int) -> Application:
    """The app, answering with these bytes."""
    echo = serve.deployment(name="echo", **MODEL_OPTIONS)(Echo).bind(answer)
    ingress = serve.deployment(
        name="echo-ingress", num_replicas=ingress_replicas, **INGRESS_OPTIONS
    )
    return ingress(EchoIngress).bind(echo)
