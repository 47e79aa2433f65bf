"""Where finished pictures lie while an address of theirs is good: a folder, or any fsspec location.

A name begins with the Unix second at which its file was made, so a store needs to know no file
system's idea of time. Both stores block: call them on a thread.
"""

import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import fsspec

from deployments.requests import OutputFormat

_NAME = re.compile(r"(?P<made>[0-9]{10})-[A-Za-z0-9_-]{22}\.(?P<format>png|jpeg|webp)")


class Store(Protocol):
    """Keeps files by name."""

    def put(self, name: str, content: bytes) -> None:
        """Keeps a file."""

    def get(self, name: str) -> bytes | None:
        """The file, or None if it is gone."""

    def expire(self, now: float) -> None:
        """Deletes what is too old by `now` (Unix seconds), and the oldest of what is too much."""


class LocalStore:
    """A folder of this machine, or one that all machines mount."""

    def __init__(self, folder: str, *, keep_s: float, max_bytes: int) -> None:
        self._folder = Path(folder)
        self._keep_s, self._max_bytes = keep_s, max_bytes

    def put(self, name: str, content: bytes) -> None:
        """Writes a file; the folder, where there is none, is made for its owner alone."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / name).write_bytes(content)

    def get(self, name: str) -> bytes | None:
        """The file, or None if it is gone."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def expire(self, now: float) -> None:
        """Deletes files of ours; others that lie in the folder stay."""
        kept = []
        for path in self._folder.iterdir():
            # Another replica may delete it in between.
            with suppress(FileNotFoundError):
                kept.append(Kept(path.name, path.stat().st_size))
        for name in surplus(kept, now=now, keep_s=self._keep_s, max_bytes=self._max_bytes):
            (self._folder / name).unlink(missing_ok=True)


class FsspecStore:
    """An fsspec location that all machines of a fleet reach, such as `s3://bucket/stepwise`."""

    def __init__(self, url: str, *, keep_s: float, max_bytes: int) -> None:
        self._files, self._root = fsspec.core.url_to_fs(url)
        self._keep_s, self._max_bytes = keep_s, max_bytes
        # Now and not at the first picture: a location that cannot be reached stops the start.
        self._files.makedirs(self._root, exist_ok=True)

    def put(self, name: str, content: bytes) -> None:
        """Writes a file."""
        self._files.pipe_file(self._at(name), content)

    def get(self, name: str) -> bytes | None:
        """The file, or None if it is gone."""
        try:
            content: bytes = self._files.cat_file(self._at(name))
        except FileNotFoundError:
            return None
        return content

    def expire(self, now: float) -> None:
        """Deletes files of ours; others that lie there stay."""
        # Listings are cached, and another replica has written since.
        self._files.invalidate_cache(self._root)
        kept = [
            Kept(each["name"].rpartition("/")[2], each["size"] or 0)
            for each in self._files.ls(self._root, detail=True)
        ]
        for name in surplus(kept, now=now, keep_s=self._keep_s, max_bytes=self._max_bytes):
            # Another replica may have deleted it.
            with suppress(FileNotFoundError):
                self._files.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"


class Kept(NamedTuple):
    """A file that lies in a store."""

    name: str
    size: int
    """Bytes."""


def new_name(output_format: OutputFormat, now: float) -> str:
    """A name that nobody can guess, for a file made at `now` (Unix seconds)."""
    return f"{int(now):010d}-{secrets.token_urlsafe(16)}.{output_format}"


def media_type(name: str) -> str | None:
    """What a file of this name holds; None if no file of ours has such a name."""
    match = _NAME.fullmatch(name)
    return match and f"image/{match['format']}"


def surplus(kept: Iterable[Kept], *, now: float, keep_s: float, max_bytes: int) -> list[str]:
    """The names of the files to delete: those too old, then the oldest until the rest fits."""
    ours = sorted((each for each in kept if _NAME.fullmatch(each.name)), reverse=True)
    names, size = [], 0
    for each in ours:  # the newest first
        size += each.size
        if size > max_bytes or int(each.name[:10]) + keep_s < now:
            names.append(each.name)
    return names
