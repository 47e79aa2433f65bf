"""How much each caller runs: rows in flight, and rows in the last minute.

Whoever runs rows takes a lease for them first and ends it afterwards. A lease that is not renewed
expires, so that an ingress replica that died holds nothing. Leases are in memory alone: a ledger
that starts anew counts from nothing. Knows no Ray and no HTTP.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from deployments.errors import TooManyRows

LEASE_TTL_S = 60.0
FIRST_GUESS_S = 5.0
"""Retry-After for rows in flight, until one lease of the caller has shown how long one takes."""


@dataclass(slots=True)
class _Lease:
    rows: int
    begun: float
    expires: float


@dataclass(slots=True)
class _Account:
    """One caller's."""

    tokens: float
    """Rows that it may begin at once ..."""
    filled: float
    """... as of this moment."""
    lasted_s: float = FIRST_GUESS_S
    """How long its last lease was held."""
    leases: dict[str, _Lease] = field(default_factory=dict)

    @property
    def in_flight(self) -> int:
        """The rows that its leases hold."""
        return sum(lease.rows for lease in self.leases.values())


class Quotas:
    """Counts rows by caller; 0 sets no limit.

    A request of more rows than a limit is never let through: refuse it before it comes here.
    """

    def __init__(
        self,
        *,
        max_rows_in_flight: int = 0,
        rows_per_minute: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_rows, self._per_minute, self._clock = max_rows_in_flight, rows_per_minute, clock
        self._burst = max(rows_per_minute, 1.0)
        self._accounts: dict[str, _Account] = {}

    def begin(self, caller: str, lease_id: str, rows: int, *, ttl_s: float = LEASE_TTL_S) -> None:
        """Takes a lease for `rows`. Raises TooManyRows, with the time after which to try again."""
        account, now = self._account(caller), self._clock()
        self._refuse_in_flight(caller, account, rows, now)
        self._spend(caller, account, rows, now)
        account.leases[lease_id] = _Lease(rows, begun=now, expires=now + ttl_s)

    def renew(self, caller: str, lease_id: str) -> None:
        """Puts off its expiry; of a lease that has expired, nothing."""
        lease = self._account(caller).leases.get(lease_id)
        if lease is not None:
            lease.expires = self._clock() + LEASE_TTL_S

    def end(self, caller: str, lease_id: str) -> None:
        """Gives its rows back; of a lease that has expired, nothing."""
        account = self._account(caller)
        lease = account.leases.pop(lease_id, None)
        if lease is not None:
            account.lasted_s = self._clock() - lease.begun

    def in_flight(self, caller: str) -> int:
        """The rows that the caller's leases hold."""
        return self._account(caller).in_flight

    def _account(self, caller: str) -> _Account:
        """The caller's, without what has expired."""
        now = self._clock()
        account = self._accounts.setdefault(caller, _Account(tokens=self._burst, filled=now))
        for lease_id, lease in list(account.leases.items()):
            if lease.expires <= now:
                del account.leases[lease_id]
        return account

    def _refuse_in_flight(self, caller: str, account: _Account, rows: int, now: float) -> None:
        in_flight = account.in_flight
        if not self._max_rows or in_flight + rows <= self._max_rows:
            return
        oldest = min((lease.begun for lease in account.leases.values()), default=now)
        raise TooManyRows(
            f"key {caller!r} has {in_flight} pictures in flight and asks for {rows} more; at most "
            f"{self._max_rows} may be at once: wait until one is done",
            retry_s=max(oldest + account.lasted_s - now, 1.0),
        )

    def _spend(self, caller: str, account: _Account, rows: int, now: float) -> None:
        if not self._per_minute:
            return
        gained = (now - account.filled) * self._per_minute / 60
        account.tokens, account.filled = min(account.tokens + gained, self._burst), now
        if account.tokens < rows:
            wait_s = (rows - account.tokens) * 60 / self._per_minute
            raise TooManyRows(
                f"key {caller!r} may begin {self._per_minute:g} pictures a minute, and {rows} more "
                f"in {math.ceil(wait_s)} s",
                retry_s=wait_s,
            )
        account.tokens -= rows
