"""Headers that tell a browser how little it may do with an answer."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


def _missing(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    has = dict(headers)
    missing = list(_ALWAYS)
    if _POLICY[0] not in has:
        missing.append(_POLICY)
    # Answers in JSON hold prompts and pictures that are one caller's alone.
    if _NO_STORE[0] not in has and has.get(b"content-type", b"").startswith(b"application/json"):
        missing.append(_NO_STORE)
    return missing
