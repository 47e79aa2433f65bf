"""The ledger on Ray Serve: one replica, whose memory is what it knows."""

from typing import Any

from ray.serve import metrics as serve_metrics
from ray.serve.handle import DeploymentHandle

from deployments.dispatch import Dispatcher
from deployments.jobs.ledger import Ledger
from deployments.jobs.quotas import Quotas
from deployments.jobs.settings import JobsSettings
from deployments.logs import log_through_serve
from deployments.metrics import LEDGER
from deployments.published import Published, tell_regularly


class JobsLedger(Ledger):
    """`Ledger` over handles to the models and the imaging replicas; `events` is a stream."""

    def __init__(
        self,
        settings: JobsSettings,
        models: dict[str, DeploymentHandle[Any]],
        imaging: DeploymentHandle[Any],
        quotas: Quotas,
    ) -> None:
        log_through_serve()
        meter = Published(serve_metrics, LEDGER, model=tuple(models))
        watch = Dispatcher(models, imaging, meter).watch
        super().__init__(watch, settings, quotas=quotas, meter=meter)
        self._told = tell_regularly(self.tell)
