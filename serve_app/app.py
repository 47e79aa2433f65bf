"""How the graph is wired. The only `.bind()` calls are here.

HTTP -> ingress ------> diffusion (one deployment per model)
           |    \\-> imaging -/   (only with an input image)
           \\-> jobs, which reaches both as the ingress does
"""

import secrets
from typing import Any

import msgspec
from ray import serve
from ray.serve import Application, Deployment

from deployments.diffusion.deployment import Diffusion
from deployments.diffusion.settings import DiffusionSettings
from deployments.imaging.deployment import Imaging
from deployments.ingress.deployment import Ingress
from deployments.ingress.settings import IngressSettings
from deployments.jobs.deployment import JobsLedger
from deployments.jobs.quotas import Quotas
from serve_app.config import DeploymentOptions, ModelSection, read_config


def build(args: dict[str, Any]) -> Application:
    """The application of a config file: `import_path: serve_app.app:build`."""
    config = read_config(args)
    imaging = _deployment(Imaging, "imaging", config.imaging.deployment).bind(
        config.imaging.settings
    )
    models = {model.settings.id: _model(model) for model in config.models}
    limits = config.ingress.settings.limits
    quotas = Quotas(
        max_rows_in_flight=limits.max_rows_in_flight, rows_per_minute=limits.rows_per_minute
    )
    jobs = _deployment(JobsLedger, "jobs", config.jobs.deployment).bind(
        config.jobs.settings, models, imaging, quotas
    )
    ingress = _deployment(Ingress, "ingress", config.ingress.deployment)
    return ingress.bind(_with_secret(config.ingress.settings), models, imaging, jobs)


def _model(model: ModelSection) -> Application:
    diffusion = _deployment(Diffusion, f"diffusion-{model.settings.id}", model.deployment)
    return diffusion.bind(_with_fraction(model), model.deployment.graceful_shutdown_timeout_s)


def _with_fraction(model: ModelSection) -> DiffusionSettings:
    """Ray only counts fractions of a GPU; the replica itself must keep to its own."""
    fraction = model.deployment.num_gpus
    if not 0 < fraction < 1:
        return model.settings
    return msgspec.structs.replace(model.settings, memory_fraction=fraction)


def _with_secret(settings: IngressSettings) -> IngressSettings:
    """Drawn here where the config has none, so that all ingress replicas sign with the same."""
    results = settings.results
    if results.secret or results.secret_env:
        return settings
    results = msgspec.structs.replace(results, secret=secrets.token_hex(32))
    return msgspec.structs.replace(settings, results=results)


def _deployment(room: type, name: str, options: DeploymentOptions) -> Deployment:
    return serve.deployment(name=name, **options.as_serve_options())(room)
