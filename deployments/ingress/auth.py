"""Who may ask: a request brings an API key, or is answered with 401 before any route sees it.

Knows where clients put a key (`Authorization: Bearer`, `Authorization: Basic` with the key as its
password, `x-api-key`) and which paths need none. Knows nothing of how keys are kept (`keys.py`).
"""

import base64
import binascii
import ipaddress
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.errors import InvalidApiKey
from deployments.ingress.failures import failure_response
from deployments.ingress.keys import KeyRing, read_keys
from deployments.ingress.settings import AuthSettings

_OPEN = re.compile(r"/healthz|/readyz|/v1/files/[^/]+")
"""Probes carry no key, and the URL of a result is signed itself."""


def keys_in_force(auth: AuthSettings, *, host: str) -> KeyRing | None:
    """The keys of which a request must bring one, or None where everybody may ask.

    Raises ValueError for keys that cannot be read, and where `keys_needed` does.
    """
    keys = KeyRing(()) if auth.chosen == "off" else read_keys(auth)
    return keys if keys_needed(host, auth, has_keys=bool(keys)) else None


def keys_needed(host: str, auth: AuthSettings, *, has_keys: bool) -> bool:
    """Whether a service that listens on `host` asks for keys.

    Raises ValueError when it should and has none, and when nobody said that it should not while
    others than this machine can reach it.
    """
    if auth.chosen == "off":
        return False
    if has_keys:
        return True
    if auth.chosen == "on":
        raise ValueError(
            "auth: mode is on and no API keys are configured; set ingress.settings.auth.keys_file "
            "or keys_env"
        )
    if not _is_loopback(host):
        raise ValueError(
            f"auth: the service listens on {host} and no API keys are configured; set "
            "ingress.settings.auth.keys_file or keys_env, or say auth.mode: off"
        )
    return False


class Authenticated:
    """Middleware that lets no request pass without a key, and tells the routes whose it was."""

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one request."""
        if scope["type"] != "http" or _is_open(scope):
            await self._app(scope, receive, send)
            return
        key = _presented(Headers(scope=scope))
        caller = None if key is None else self._keys.owner(key)
        if caller is None:
            refusal = InvalidApiKey(_NO_KEY if key is None else _WRONG_KEY)
            await failure_response(refusal)(scope, receive, send)
            return
        scope["caller"] = caller
        await self._app(scope, receive, send)


_NO_KEY = "no API key was sent; send the header 'Authorization: Bearer YOUR_KEY'"
_WRONG_KEY = "the API key is not known here; check it, or ask the service's operator for one"


def _is_open(scope: Scope) -> bool:
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return scope["method"] in ("GET", "HEAD") and _OPEN.fullmatch(path) is not None


def _presented(headers: Headers) -> bytes | None:
    """The key that a request brings. Open WebUI sends `Basic ` with nothing behind it for none."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer" and credentials:
        return credentials.encode("latin-1")
    if scheme.lower() == "basic" and (password := _password(credentials)):
        return password
    return headers.get("x-api-key", "").encode("latin-1") or None


def _password(credentials: str) -> bytes:
    try:
        decoded = base64.b64decode(credentials.encode("latin-1"), validate=True)
    except binascii.Error:
        return b""
    return decoded.partition(b":")[2]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name; where it leads is not known here
