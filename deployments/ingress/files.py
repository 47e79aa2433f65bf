"""GET /v1/files/{name}: what the signed addresses in answers lead to.

The signature is the key: no other is asked for, since such an address is made to be put into a
page.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.ingress.service import Service


def routes(service: Service) -> list[Route]:
    """/v1/files"""

    async def file(request: Request) -> Response:
        """The picture itself."""
        content, kind = await service.results.fetch(
            request.path_params["name"],
            expires=request.query_params.get("expires", ""),
            signature=request.query_params.get("signature", ""),
        )
        return Response(content, media_type=kind)

    return [Route("/v1/files/{name}", file, methods=["GET"])]
