"""API keys: read from a file or the environment, made by `python -m deployments.ingress.keys NAME`.

Only SHA-256 hashes are stored. A key is 256 random bits, not a word that somebody chose: there is
no dictionary to try, so a plain hash keeps what a slow, salted one keeps for passwords. A name may
have several keys, so that an old one can stay while its clients change to the new one.
"""

import hashlib
import hmac
import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from deployments.ingress.hints import shown
from deployments.ingress.settings import AuthSettings
from deployments.requests import ANYBODY

PREFIX = "stepwise-"
"""Lets scanners for leaked secrets find our keys."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")


class KeyRing:
    """Who owns which key, by the key's hash."""

    def __init__(self, hashes: Iterable[tuple[str, str]]) -> None:
        self._hashes = [(name, digest.encode()) for name, digest in hashes]

    def __len__(self) -> int:
        return len(self._hashes)

    def owner(self, key: bytes) -> str | None:
        """The name of the key, or None. Every stored hash is compared, whichever one fits."""
        presented = hashlib.sha256(key).hexdigest().encode()
        owner = None
        for name, digest in self._hashes:
            if hmac.compare_digest(presented, digest):
                owner = name
        return owner


def read_keys(auth: AuthSettings) -> KeyRing:
    """The keys of both sources. Raises ValueError with the source, the line and the cure."""
    hashes: list[tuple[str, str]] = []
    if auth.keys_file:
        hashes += _parsed(_file_lines(auth.keys_file), f"keys_file {auth.keys_file}")
    if auth.keys_env:
        lines = re.split(r"[,\n]", os.environ.get(auth.keys_env, ""))
        hashes += _parsed(lines, f"keys_env {auth.keys_env}")
    return KeyRing(hashes)


def _file_lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"auth: keys_file {Path(path).absolute()} cannot be read ({error}); "
            "every machine with an ingress replica needs it"
        ) from error


def _parsed(lines: Iterable[str], source: str) -> list[tuple[str, str]]:
    hashes = list(_hashes(lines, source))
    if not hashes:
        raise ValueError(f"auth: {source} holds no key; {_cure('NAME')}")
    return hashes


def _hashes(lines: Iterable[str], source: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        name, _, digest = (part.strip() for part in text.partition(":"))
        # The line is not quoted: whoever pasted a key instead of its hash does not want it logged.
        if not _HASH.fullmatch(digest):
            raise ValueError(
                f"auth: {source}, line {number} is not NAME:HASH with 64 lower-case hexadecimal "
                f"digits; {_cure('NAME')}"
            )
        _check_name(name, f"{source}, line {number}")
        yield name, digest


def _check_name(name: str, place: str) -> None:
    if not _NAME.fullmatch(name) or name == ANYBODY:
        raise ValueError(
            f"auth: {place}: the name {shown(name)} cannot be used; take 1 to 64 letters, digits, "
            f"'.', '_' or '-', and not {ANYBODY!r}"
        )


def _cure(name: str) -> str:
    return f"make one with: python -m deployments.ingress.keys {name}"


def main(arguments: list[str]) -> None:
    """Makes a key and prints it, and the line that lets the service know it."""
    if len(arguments) != 1:
        sys.exit("usage: python -m deployments.ingress.keys NAME")
    (name,) = arguments
    try:
        _check_name(name, "NAME")
    except ValueError as error:
        sys.exit(str(error))
    key = PREFIX + secrets.token_urlsafe(32)
    print(f"the key, for {name}'s client; it is shown this once:\n  {key}")
    print(f"the line for keys_file:\n  {name}:{hashlib.sha256(key.encode()).hexdigest()}")


if __name__ == "__main__":
    main(sys.argv[1:])
