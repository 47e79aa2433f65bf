"""Addresses that expire: whoever has one may fetch its file until then, and nobody can make one.

Every ingress replica signs with the same secret, so any of them can serve what another signed.
"""

import hmac

from deployments.errors import FileExpired, FileForbidden


def signature(name: str, expires: int, *, secret: str) -> str:
    """What proves that this service gave out `name` until `expires` (Unix seconds)."""
    # Neither a name nor a number holds a line break, so no other pair gives the same text.
    return hmac.new(secret.encode(), f"{name}\n{expires}".encode(), "sha256").hexdigest()


def check(name: str, expires: str, given: str, *, secret: str, now: float) -> None:
    """Raises FileForbidden unless `given` is the signature, FileExpired when its time is over."""
    # Longer ones are no time of ours; int() of a long text is slow.
    at = int(expires) if expires.isdecimal() and len(expires) <= 12 else 0
    right = signature(name, at, secret=secret)
    if not hmac.compare_digest(right.encode(), given.encode()):
        raise FileForbidden(
            "the signature of this address is not right; use the address as it was given",
            param="signature",
        )
    if at < now:
        raise FileExpired(
            f"this address expired at {at} (Unix seconds); ask for the picture again",
            param="expires",
        )
