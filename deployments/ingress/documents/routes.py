"""/openapi.json and /docs."""

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.ingress.answers import json_answer
from deployments.ingress.documents.fields import Json
from deployments.ingress.documents.openapi import SECURITY, document
from deployments.ingress.documents.operations import OPERATIONS
from deployments.ingress.documents.page import POLICY, page
from deployments.ingress.service import Service, caller
from deployments.requests import ANYBODY


def routes(service: Service) -> list[Route]:
    """The documents; what they tell does not depend on the service's models."""
    told = document(OPERATIONS)

    async def openapi(request: Request) -> Response:
        """GET /openapi.json"""
        keys: list[Json] = [{scheme: []} for scheme in SECURITY] if _keyed(request) else []
        here = {"servers": [{"url": request.scope.get("root_path") or "/"}], "security": keys}
        return json_answer(msgspec.json.encode(told | here))

    async def docs(request: Request) -> Response:
        """GET /docs"""
        url = str(request.base_url).rstrip("/")
        content = await run_in_threadpool(page, told, OPERATIONS, url=url, keyed=_keyed(request))
        return Response(
            content, media_type="text/html", headers={"content-security-policy": POLICY}
        )

    return [
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/docs", docs, methods=["GET"]),
    ]


def _keyed(request: Request) -> bool:
    """Whether API keys are asked for: this request has brought one."""
    return caller(request) != ANYBODY
