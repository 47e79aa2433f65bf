"""What stands between a browser and the service: headers that tell it how little it may do with an
answer, and a refusal of requests that other sites' pages make it send."""

from collections.abc import Container

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import ForeignOrigin
from deployments.ingress.failures import failure_response
from deployments.ingress.hints import shown

_ALWAYS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_NO_STORE = (b"cache-control", b"no-store")


class SecurityHeaders:
    """Middleware that adds what a route has not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_missing(message["headers"])]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class OwnPagesOnly:
    """Middleware for a service without API keys: pages of other sites may start nothing.

    A browser sends forms and plain text to any address, the user's own machine too, and asks nobody
    before. It does say whose page it was, which other clients do not.
    """

    def __init__(self, app: ASGIApp, allowed: Container[str]) -> None:
        """`allowed` are the origins of pages that may, besides those of this service."""
        self._app, self._allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one request."""
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._may(origin, headers.get("host", "")):
                refusal = ForeignOrigin(
                    f"a page of {shown(origin)} may not use this service; list its origin in "
                    "ingress.settings.cors_origins"
                )
                await failure_response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _may(self, origin: str, host: str) -> bool:
        own = origin.partition("://")[2] == host
        return own or "*" in self._allowed or origin in self._allowed


def _missing(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    has = dict(headers)
    missing = list(_ALWAYS)
    if _POLICY[0] not in has:
        missing.append(_POLICY)
    # Answers in JSON hold prompts and pictures that are one caller's alone.
    if _NO_STORE[0] not in has and has.get(b"content-type", b"").startswith(b"application/json"):
        missing.append(_NO_STORE)
    return missing
