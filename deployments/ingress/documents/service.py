"""What the service tells of itself, as the documents tell of it."""

from typing import Any

from deployments.ingress.capabilities import Capabilities
from deployments.ingress.documents.operation import Answer, Operation
from deployments.ingress.health import Alive, Ready

GROUP = "The service"

OPERATIONS = (
    Operation(
        group=GROUP,
        method="GET",
        path="/v1/capabilities",
        says="Models, sizes, samplers, limits and defaults: what a client needs to draw its form.",
        answers=(Answer(says="What is offered.", type=Capabilities),),
    ),
    Operation(
        group=GROUP,
        method="GET",
        path="/healthz",
        says="Whether this process lives.",
        answers=(Answer(says="It does.", type=Alive, example={"status": "ok"}),),
        keyless=True,
    ),
    Operation(
        group=GROUP,
        method="GET",
        path="/readyz",
        says="Whether a model would answer now.",
        answers=(
            Answer(
                says="It would.", type=Ready, example={"status": "ready", "models": ["embedded"]}
            ),
        ),
        refusals=(503,),
        keyless=True,
    ),
    Operation(
        group=GROUP,
        method="GET",
        path="/openapi.json",
        says="This document.",
        answers=(Answer(says="OpenAPI 3.1.", type=dict[str, Any]),),
    ),
    Operation(
        group=GROUP,
        method="GET",
        path="/docs",
        says="The same as a page.",
        answers=(Answer(says="The page.", media_types=("text/html",)),),
    ),
)
