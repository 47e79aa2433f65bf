"""The ingress on Ray Serve: the only file here that knows Ray.

A backend over deployment handles, and the translation of Ray's errors into ours.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import ModelNotReady, Requeue
from deployments.ingress.backend import card_for
from deployments.ingress.envelope import REQUEST_ID, new_request_id
from deployments.ingress.resolve import resolve
from deployments.ingress.routes import build_app
from deployments.ingress.settings import IngressSettings
from deployments.logs import log_through_serve
from deployments.requests import GenerationParams, GenerationRequest, ImageResult, ModelCard

log = logging.getLogger(__name__)

CARD_RETRY_S = 2.0
"""Pause after a failed request for a card. A model that loads fails none: the call waits."""
READY_TIMEOUT_S = 2.0
"""How long a readiness probe waits for a model; probes of Kubernetes often allow little more."""
REJECTED_RETRY_S = 1.0
"""Retry-After for a rejection by Serve that names no time."""


@serve.ingress()
class Ingress:
    """The HTTP routes and `submit`, over handles to the models and the imaging replicas."""

    def __init__(
        self,
        settings: IngressSettings,
        models: dict[str, DeploymentHandle[Any]],
        imaging: DeploymentHandle[Any],
    ) -> None:
        log_through_serve()
        self._settings = settings
        self._models = models
        self._imaging = imaging
        self._cards: dict[str, ModelCard] = {}
        self._learning = [asyncio.create_task(self._learn_card(model)) for model in models]

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Serve on the replica, so the app is never pickled."""
        return _without_request_id(build_app(self, self._settings))

    def cards(self) -> Mapping[str, ModelCard]:
        """Cards of the models that were warm at least once."""
        return self._cards

    def models(self) -> Sequence[str]:
        """Every configured model id; the first is the default model."""
        return list(self._models)

    async def ready(self) -> bool:
        """Whether some model answers right now; what they say renews their cards."""
        asked = [asyncio.create_task(self._answers(model)) for model in self._models]
        try:
            for answer in asyncio.as_completed(asked):
                if await answer:
                    return True
            return False
        finally:
            for task in asked:
                task.cancel()

    async def submit(self, params: GenerationParams) -> list[ImageResult]:
        """The same way as HTTP takes, for other Ray apps that hold this app's handle."""
        settled = resolve(
            params,
            card_for(self, params.model),
            request_id=new_request_id(),
            max_megapixels=self._settings.max_megapixels,
        )
        return await self.generate(settled)

    async def generate(self, request: GenerationRequest) -> list[ImageResult]:
        """Runs the rows wherever there is room; all are cancelled when one of them fails."""
        prepared = None
        if request.image is not None:
            # Not awaited: the array goes from the imaging replica to the model's, not through here.
            prepared = self._imaging.prepare.remote(request.image, request.mask, request.prepare)
        model = self._models[request.rows[0].model]
        calls = [model.generate.remote(row, prepared) for row in request.rows]
        begun: list[Any] = calls if prepared is None else [prepared, *calls]
        try:
            return list(await asyncio.gather(*calls))
        except (RayError, RayServeException) as error:
            _cancel(begun)
            raise translated(error) from error
        except asyncio.CancelledError:  # the client went away
            _cancel(begun)
            raise

    def _ask_card(self, model: str) -> "DeploymentResponse[ModelCard]":
        response = self._models[model].card.remote()
        return cast("DeploymentResponse[ModelCard]", response)

    async def _learn_card(self, model: str) -> None:
        # The call waits at the handle while no replica runs, so this is no busy loop.
        while model not in self._cards:
            try:
                self._cards[model] = await self._ask_card(model)
                log.info("model %s is warm", model)
            except (RayError, RayServeException) as error:
                log.warning("no card from model %s yet: %s", model, error)
                await asyncio.sleep(CARD_RETRY_S)

    async def _answers(self, model: str) -> bool:
        response = self._ask_card(model)
        try:
            self._cards[model] = await asyncio.wait_for(response, READY_TIMEOUT_S)
        except TimeoutError:
            _cancel([response])
            return False
        except asyncio.CancelledError:
            _cancel([response])
            raise
        except BackPressureError:
            # Too much work is no reason to take this replica out of the load balancer.
            return model in self._cards
        except (RayError, RayServeException) as error:
            log.warning("model %s does not answer: %s", model, error)
            return False
        return True


def translated(error: Exception) -> Exception:
    """Ray's error as ours. A user's exception arrives wrapped, once for each hop it crossed."""
    while isinstance(error, RayTaskError):
        error = error.cause
    match error:
        case BackPressureError():
            return Requeue(
                "every replica is at its limit; try again later",
                pending_s=error.retry_after_s or REJECTED_RETRY_S,
            )
        case RayActorError() | ReplicaUnavailableError():
            return ModelNotReady("the replica at work was lost; another takes over, try again")
        case DeploymentUnavailableError():
            return ModelNotReady("the model failed to start; see the service's log")
    return error


def _cancel(calls: Sequence[DeploymentResponse[Any]]) -> None:
    for call in calls:
        # A call that never reached a replica raises its failure again here; it is the failure
        # being reported, or came after it.
        with suppress(RayError, RayServeException):
            call.cancel()


def _without_request_id(app: ASGIApp) -> ASGIApp:
    """Serve's proxy makes or keeps the request id, hands it to the app in the request's headers
    and appends it to every response; a second header of that name would read as `id, id`."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_without(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    header for header in message["headers"] if header[0] != REQUEST_ID.encode()
                ]
            await send(message)

        await app(scope, receive, send_without)

    return wrapped
