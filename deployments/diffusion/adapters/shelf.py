"""The adapters in main memory: read when a row first asks for them, the last used kept."""

import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

from deployments.diffusion.adapters.files import adapter_file, read_adapter
from deployments.diffusion.adapters.weights import LoadedAdapter
from deployments.diffusion.families.family import Family
from deployments.diffusion.settings import Adapter
from deployments.errors import AdapterFailed

logger = logging.getLogger(__name__)

_File = tuple[Path, int, int]
"""A file as it was: its path, when it was written in ns, its bytes."""


class FailedFile(NamedTuple):
    """An adapter that cannot be used."""

    name: str
    message: str
    """Why, for the client."""
    file: _File | None
    """What was read; None where there was nothing to read."""


class AdapterShelf:
    """One model's. All but `read` is for one thread.

    Rows hold what they use, and as long as one does, others find it, also once it has left the
    shelf: no adapter is in memory twice.
    """

    def __init__(
        self, family: Family, sources: Sequence[Adapter] = (), *, max_loaded: int = 1
    ) -> None:
        self._family = family
        self._sources = {source.name: source for source in sources}
        self._max_loaded = max_loaded
        self._last_used: OrderedDict[str, LoadedAdapter] = OrderedDict()
        self._in_use: WeakValueDictionary[str, LoadedAdapter] = WeakValueDictionary()
        self._failed: dict[str, FailedFile] = {}
        self.names: tuple[str, ...] = ()
        """Those on it, the last used last. For any thread, as the others below."""
        self.reads = 0
        """How many files were read, but for those that failed."""
        self.read_s = 0.0
        """What reading one takes, as the last ones did; 0 before any."""

    def find(self, name: str) -> LoadedAdapter | None:
        """None if it must be read first.

        Raises AdapterFailed: it cannot be used, and why. A file that failed is to be read again
        once it has changed.
        """
        if name not in self._sources:
            raise AdapterFailed(f"lora {name!r} is not one of this model's; ask for another")
        loaded = self._in_use.get(name)
        if loaded is not None:
            self._touch(loaded)
            return loaded
        failed = self._failed.get(name)
        if failed is not None and failed.file == _file(self._sources[name]):
            raise AdapterFailed(failed.message)
        return None

    def read(self, name: str) -> LoadedAdapter | FailedFile:
        """What `keep` is to be handed. For any thread, since it takes a while."""
        source, begun_s = self._sources[name], time.monotonic()
        file: _File | None = None
        try:
            file = _file(source)
            loaded = read_adapter(source, self._family)
        except AdapterFailed as error:
            return FailedFile(name, error.message, file)
        except OSError:  # of a folder that may not be looked into
            logger.exception("adapter %s: %s cannot be read", name, source.source)
            return FailedFile(name, f"lora {name!r} cannot be used: its file cannot be read", file)
        took_s = time.monotonic() - begun_s
        # As of a switch: later ones count half, since one may meet a busy machine.
        self.read_s = (self.read_s + took_s) / 2 if self.reads else took_s
        self.reads += 1
        logger.info("adapter %s read in %.2f s", name, took_s)
        return loaded

    def keep(self, read: LoadedAdapter | FailedFile) -> None:
        """From now on `find` knows of it."""
        if isinstance(read, FailedFile):
            self._failed[read.name] = read
            return
        self._failed.pop(read.name, None)
        self._in_use[read.name] = read
        self._touch(read)

    def _touch(self, loaded: LoadedAdapter) -> None:
        self._last_used[loaded.name] = loaded
        self._last_used.move_to_end(loaded.name)
        while len(self._last_used) > self._max_loaded:
            self._last_used.popitem(last=False)
        self.names = tuple(self._last_used)


def _file(source: Adapter) -> _File:
    """Raises AdapterFailed where there is none."""
    path = adapter_file(source)
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size
