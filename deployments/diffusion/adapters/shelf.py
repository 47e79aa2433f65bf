"""The adapters in main memory: read when a row first asks for them, the last used kept."""

import logging
import time
from collections import OrderedDict
from collections.abc import Sequence

from deployments.diffusion.adapters.files import read_adapter
from deployments.diffusion.adapters.weights import NO_ADAPTERS, AdapterSet, LoadedAdapter
from deployments.diffusion.families.family import Family
from deployments.diffusion.settings import Adapter
from deployments.errors import AdapterFailed
from deployments.requests import AdapterUse

logger = logging.getLogger(__name__)


class AdapterShelf:
    """One model's. For one thread, which is not the engine's: a file takes a while to read.

    Rows hold what they use, so that what leaves the shelf is there until the last of them is done.
    """

    def __init__(
        self, family: Family, sources: Sequence[Adapter] = (), *, max_loaded: int = 1
    ) -> None:
        self._family = family
        self._sources = {source.name: source for source in sources}
        self._max_loaded = max_loaded
        self._loaded: OrderedDict[str, LoadedAdapter] = OrderedDict()

    def take(self, uses: Sequence[AdapterUse]) -> AdapterSet:
        """These adapters, read first where they must be.

        Raises AdapterFailed: whose file cannot be used, and why. The next row tries it again.
        """
        if not uses:
            return NO_ADAPTERS
        taken = AdapterSet(tuple(uses), tuple(self._take(use.name) for use in uses))
        self._family.slots.check(taken)
        return taken

    def _take(self, name: str) -> LoadedAdapter:
        if name not in self._sources:
            raise AdapterFailed(f"lora {name!r} is not one of this model's; ask for another")
        if name not in self._loaded:
            begun_s = time.monotonic()
            self._loaded[name] = read_adapter(self._sources[name], self._family)
            logger.info("adapter %s read in %.2f s", name, time.monotonic() - begun_s)
        self._loaded.move_to_end(name)
        while len(self._loaded) > self._max_loaded:
            self._loaded.popitem(last=False)
        return self._loaded[name]
