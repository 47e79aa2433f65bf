"""How the graph is wired. The only `.bind()` calls are here.

HTTP -> ingress ------> diffusion (one deployment per model)
           |    \\-> imaging -/   (only with an input image)
           \\-> jobs, which reaches both as the ingress does
"""

from typing import Any

from ray import serve
from ray.serve import Application, Deployment

from deployments.diffusion.deployment import Diffusion
from deployments.imaging.deployment import Imaging
from deployments.ingress.deployment import Ingress
from deployments.jobs.deployment import JobsLedger
from serve_app.config import DeploymentOptions, read_config


def build(args: dict[str, Any]) -> Application:
    """The application of a config file: `import_path: serve_app.app:build`."""
    config = read_config(args)
    imaging = _deployment(Imaging, "imaging", config.imaging.deployment).bind(
        config.imaging.settings
    )
    models = {
        model.settings.id: _deployment(
            Diffusion, f"diffusion-{model.settings.id}", model.deployment
        ).bind(model.settings)
        for model in config.models
    }
    jobs = _deployment(JobsLedger, "jobs", config.jobs.deployment).bind(
        config.jobs.settings, models, imaging
    )
    ingress = _deployment(Ingress, "ingress", config.ingress.deployment)
    return ingress.bind(config.ingress.settings, models, imaging, jobs)


def _deployment(room: type, name: str, options: DeploymentOptions) -> Deployment:
    return serve.deployment(name=name, **options.as_serve_options())(room)
