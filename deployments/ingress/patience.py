"""How long a body may take to arrive.

Neither uvicorn nor Serve limits it: without this, a client that sends a byte now and then would
hold what it has sent so far, and a slot of the replica, for ever.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import SlowBody


class BodyDeadline:
    """Middleware: a route that reads the body meets SlowBody `timeout_s` after the headers came.

    What comes after the body, the news that the client has left, may take any time.
    """

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        arriving = True

        async def receive_in_time() -> Message:
            nonlocal arriving
            if not arriving:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise SlowBody(
                    f"the body had not arrived after {self._timeout_s:g} s; send a smaller one, "
                    "or send it faster"
                ) from None
            arriving = message.get("more_body", False)
            return message

        await self._app(scope, receive_in_time, send)
