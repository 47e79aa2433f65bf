"""The ledger on Ray Serve: one replica, whose memory is what it knows."""

from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.dispatch import Dispatcher
from deployments.jobs.ledger import Ledger
from deployments.jobs.quotas import Quotas
from deployments.jobs.settings import JobsSettings
from deployments.logs import log_through_serve


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
        super().__init__(Dispatcher(models, imaging).watch, settings, quotas=quotas)
