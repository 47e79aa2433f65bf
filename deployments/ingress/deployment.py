"""The ingress on Ray Serve: the only file here that knows Ray.

A backend over deployment handles.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve import metrics as serve_metrics
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.context import _get_serve_request_context
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.dispatch import Dispatcher, cancel, translated
from deployments.errors import ReplicaLost
from deployments.ingress.backend import card_for
from deployments.ingress.counting import Counting
from deployments.ingress.envelope import REQUEST_ID
from deployments.ingress.resolve import resolve
from deployments.ingress.routes import build_app
from deployments.ingress.settings import IngressSettings
from deployments.logs import log_through_serve
from deployments.memory import return_large_blocks
from deployments.metrics import INGRESS
from deployments.published import Published
from deployments.requests import (
    GenerationParams,
    GenerationRequest,
    ImageResult,
    JobView,
    ModelCard,
    Progress,
)

log = logging.getLogger(__name__)

CARD_RETRY_S = 2.0
"""Pause after a failed request for a card. A model that loads fails none: the call waits."""
CARDS_WAIT_S = 120.0
"""How long a new replica waits for the cards before it takes requests. In an update that replaces
the last replica of a model, the old ingress replicas hold requests meanwhile, and this one would
refuse them. A model that loads longer, or never, must not keep the others from being asked."""
READY_TIMEOUT_S = 2.0
"""How long a readiness probe waits for a model; probes of Kubernetes often allow little more."""


@serve.ingress()
class Ingress:
    """The HTTP routes and `submit`, over handles to the models, imaging and the jobs."""

    def __init__(
        self,
        settings: IngressSettings,
        models: dict[str, DeploymentHandle[Any]],
        imaging: DeploymentHandle[Any],
        jobs: DeploymentHandle[Any],
    ) -> None:
        log_through_serve()
        return_large_blocks()
        self._settings = settings
        self._models = models
        self._meter = Published(serve_metrics, INGRESS, model=tuple(models))
        self._dispatcher = Dispatcher(models, imaging, self._meter)
        self.jobs = _Jobs(jobs)
        self._cards: dict[str, ModelCard] = {}
        self._learning = [asyncio.create_task(self._learn_card(model)) for model in models]

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Serve on the replica before it is ready, so the app is never pickled."""
        await asyncio.wait(self._learning, timeout=CARDS_WAIT_S)
        host = await _http_host()
        return _without_request_id(build_app(self, self._settings, host=host, meter=self._meter))

    def cards(self) -> Mapping[str, ModelCard]:
        """Cards of the models that were warm at least once, in the order of the configuration."""
        return {model: self._cards[model] for model in self._models if model in self._cards}

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
        """For other Ray apps that hold this app's handle: the same way as HTTP takes, but for the
        limits of API keys, since who holds a handle is trusted."""
        settled = resolve(
            params,
            card_for(self, params.model),
            # Serve's own of this call, as its log lines have it; it tells it by no public call.
            request_id=_get_serve_request_context().request_id,
            max_megapixels=self._settings.max_megapixels,
        )
        with Counting(self._meter, settled) as counting:
            results = await self.generate(settled)
            counting.made(len(results))
        return results

    async def generate(self, request: GenerationRequest) -> list[ImageResult]:
        """Runs the rows wherever there is room; all are cancelled when one of them fails."""
        return await self._dispatcher.generate(request)

    def watch(
        self, request: GenerationRequest, *, previews: int
    ) -> AsyncGenerator[Progress | ImageResult]:
        """What the rows tell as they run, each one's picture last."""
        return self._dispatcher.watch(request, previews=previews)

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
            cancel(response)
            return False
        except asyncio.CancelledError:
            cancel(response)
            raise
        except BackPressureError:
            # Too much work is no reason to take this replica out of the load balancer.
            return model in self._cards
        except (RayError, RayServeException) as error:
            log.warning("model %s does not answer: %s", model, error)
            return False
        return True


class _Jobs:
    """The ledger over its handle; `ingress/backend.py` says what each method does.

    Where the ledger is lost, its successor is asked once: it goes on from the journal, and the same
    again changes nothing.
    """

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def start(
        self, owner: str, job_id: str, request: GenerationRequest, *, previews: int
    ) -> JobView:
        """Takes a job and answers at once."""
        view: JobView = await self._ask("start", owner, job_id, request, previews=previews)
        return view

    async def get(self, owner: str, job_id: str) -> JobView:
        """The job now."""
        view: JobView = await self._ask("get", owner, job_id)
        return view

    async def results(self, owner: str, job_id: str, *, forget: bool = False) -> list[ImageResult]:
        """The pictures made so far."""
        results: list[ImageResult] = await self._ask("results", owner, job_id, forget=forget)
        return results

    async def events(self, owner: str, job_id: str) -> AsyncGenerator[JobView]:
        """The job now, and at every change; a successor begins again with the job now."""
        for successor in (False, True):
            call: Any = self._handle.options(stream=True).events.remote(owner, job_id)
            try:
                async for view in call:
                    yield view
                return
            except (RayError, RayServeException) as error:
                ours = translated(error)
                if successor or not isinstance(ours, ReplicaLost):
                    raise ours from error
            finally:
                cancel(call)

    async def cancel(self, owner: str, job_id: str) -> JobView:
        """Frees its lanes."""
        view: JobView = await self._ask("cancel", owner, job_id)
        return view

    async def running(self, owner: str) -> list[JobView]:
        """The owner's jobs that are not over."""
        views: list[JobView] = await self._ask("running", owner)
        return views

    async def take_lease(self, caller: str, lease_id: str, rows: int) -> None:
        """Counts rows that run outside of jobs."""
        await self._ask("take_lease", caller, lease_id, rows)

    async def renew_lease(self, caller: str, lease_id: str) -> None:
        """Keeps it."""
        await self._ask("renew_lease", caller, lease_id)

    async def end_lease(self, caller: str, lease_id: str) -> None:
        """Its rows run no more."""
        await self._ask("end_lease", caller, lease_id)

    async def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        ask = partial(getattr(self._handle, method).remote, *args, **kwargs)
        try:
            return await _ours(ask())
        except ReplicaLost:
            return await _ours(ask())


async def _ours(call: Any) -> Any:
    try:
        return await call
    except (RayError, RayServeException) as error:
        raise translated(error) from error


async def _http_host() -> str:
    """The address that Serve's proxies listen on; Serve tells it by no public call."""
    controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    options = await controller.get_http_config.remote()
    # None: there are no proxies, so nobody reaches the service from elsewhere.
    return options.host or "127.0.0.1"


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
