"""Finished pictures behind signed addresses that expire.

Any ingress replica serves what another kept, if both have the secret and reach the store.
"""

import asyncio
import contextvars
import logging
import os
import secrets
import time
from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from deployments.errors import UnknownFile
from deployments.ingress import signing
from deployments.ingress.hints import shown
from deployments.ingress.settings import IngressSettings, ResultsSettings
from deployments.ingress.store import FsspecStore, LocalStore, Store, media_type, new_name
from deployments.requests import ImageResult

log = logging.getLogger(__name__)

SWEEP_EVERY_S = 10.0
"""Between two looks at the whole store: listing a thousand files takes some milliseconds, of a
distant store a round trip."""


class Results:
    """Keeps pictures, gives addresses to them, and knows them again by these."""

    def __init__(self, settings: IngressSettings, *, sweep_every_s: float = SWEEP_EVERY_S) -> None:
        self._sweep_every_s = sweep_every_s
        self._keep_s = settings.results.keep_s
        self._public_url = settings.public_url.rstrip("/")
        self._secret = _secret(settings.results)
        self._store = _store(settings.results)
        self._sweeping: asyncio.Task[None] | None = None
        self._kept_last = 0.0

    async def keep(self, request: Request, results: Sequence[ImageResult]) -> list[str]:
        """Keeps the pictures; their addresses, at the host that the client has called."""
        now = time.time()
        names = [new_name(each.output_format, now) for each in results]
        await run_in_threadpool(self._put, names, results)
        self._kept_last = now
        if self._sweeping is None or self._sweeping.done():
            # A context of its own: it outlives the request, whose id its log lines would carry.
            self._sweeping = asyncio.create_task(self._sweep(), context=contextvars.Context())
        base = self._public_url or str(request.base_url).rstrip("/")
        return [f"{base}{self._address(name, int(now + self._keep_s))}" for name in names]

    async def fetch(self, name: str, *, expires: str, signature: str) -> tuple[bytes, str]:
        """A picture and its media type.

        Raises UnknownFile, FileForbidden or FileExpired.
        """
        kind = media_type(name)
        if kind is None:
            raise _unknown(name)
        signing.check(name, expires, signature, secret=self._secret, now=time.time())
        content = await run_in_threadpool(self._store.get, name)
        if content is None:
            raise _unknown(name)
        return content, kind

    def _address(self, name: str, expires: int) -> str:
        signature = signing.signature(name, expires, secret=self._secret)
        return f"/v1/files/{name}?expires={expires}&signature={signature}"

    def _put(self, names: Sequence[str], results: Sequence[ImageResult]) -> None:
        for name, result in zip(names, results, strict=True):
            self._store.put(name, result.content)

    async def _sweep(self) -> None:
        """Until the last picture kept here has expired. No request waits for it."""
        while True:
            now = time.time()
            try:
                await run_in_threadpool(self._store.expire, now)
            except Exception:
                log.exception("pictures that have expired could not be deleted; trying again")
            if now > self._kept_last + self._keep_s:
                return
            await asyncio.sleep(self._sweep_every_s)


def _secret(settings: ResultsSettings) -> str:
    """Raises ValueError where it should be in the environment, and is not."""
    if settings.secret_env:
        found = os.environ.get(settings.secret_env, "")
        if not found:
            raise ValueError(
                f"results.secret_env is {settings.secret_env!r}, and that environment variable is "
                "empty: set it to a long random text, the same for all ingress replicas"
            )
        return found
    # A secret of its own is enough for an ingress that is alone.
    return settings.secret or secrets.token_hex(32)


def _store(settings: ResultsSettings) -> Store:
    max_bytes = int(settings.max_mb * 1_000_000)
    if settings.url:
        return FsspecStore(settings.url, keep_s=settings.keep_s, max_bytes=max_bytes)
    return LocalStore(settings.folder, keep_s=settings.keep_s, max_bytes=max_bytes)


def _unknown(name: str) -> UnknownFile:
    return UnknownFile(
        f"there is no file {shown(name)}; it may have been deleted for newer ones", param="name"
    )
