"""Around every request: its id, its line in the log, and an answer when nobody expected the error.

Pure ASGI. Starlette's own last resort sends an answer and raises the error again, which a server
would report a second time; here an error is logged once, with its traceback, and answered.
"""

import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.failures import failure_response
from deployments.ingress.hints import shown
from deployments.requests import ANYBODY

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
CLIENT_GONE = 499
"""What nginx logs when the client leaves before the answer; never sent."""

_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestEnvelope:
    """ASGI middleware; `scope["request_id"]` and `scope["caller"]` are for the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["request_id"] = _request_id(Headers(scope=scope))
        scope["caller"] = ANYBODY
        began = time.monotonic()
        status = CLIENT_GONE

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = scope["request_id"]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            # While the body was read: there is nobody left to answer.
            pass
        except Exception as error:
            log.exception("unexpected error, request %s", scope["request_id"])
            if status != CLIENT_GONE:
                raise  # half an answer is out; only closing the connection tells the client
            await failure_response(error)(scope, receive, send_with_id)
        finally:
            elapsed_ms = (time.monotonic() - began) * 1000
            # The path is percent-decoded by now: quoting keeps a line break out of the log.
            asked = (scope["method"], shown(scope["path"]))
            answered = (status, scope["caller"], elapsed_ms, scope["request_id"])
            log.info("%s %s %d %s %.1f ms %s", *asked, *answered)


def _request_id(headers: Headers) -> str:
    given = headers.get(REQUEST_ID, "")
    return given if _GOOD_ID.fullmatch(given) else f"req-{secrets.token_hex(12)}"
