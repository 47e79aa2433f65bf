"""How many bytes come and go, by route. Pure ASGI, outside of all else that answers."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.meter import Meter
from deployments.metrics import REQUEST_BYTES, RESPONSE_BYTES

NO_ROUTE = "none"
"""The label of what met no route, as a path that is not offered, or was refused before."""


class Traffic:
    """Middleware that counts bodies."""

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self._app, self._meter = app, meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = sent = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def send_counted(message: Message) -> None:
            nonlocal sent
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive_counted, send_counted)
        finally:
            # Not the path itself, which may be anything; the router has left its route here.
            route = scope["route"].path if "route" in scope else NO_ROUTE
            self._meter.count(REQUEST_BYTES, received, route=route)
            self._meter.count(RESPONSE_BYTES, sent, route=route)
