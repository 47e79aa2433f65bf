"""The threads that make files of pixels, and how many pictures may wait for them.

They belong to the engine's replica: a PNG of 1024 x 1024 pixels takes 29 ms here, and 38 ms by way
of a CPU replica, to which its 3 MB have to go (`scripts/bench_imaging.py`).
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

logger = logging.getLogger(__name__)

MAX_WAITING = 64
"""Pictures, which are 200 MB of pixels at 1024 x 1024."""


class CodecPool:
    """Takes work from the engine's thread, which waits only when the codecs are far behind."""

    def __init__(self, threads: int, *, max_waiting: int = MAX_WAITING) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="stepwise-codec")
        self._slots = threading.BoundedSemaphore(threads + max_waiting)
        self.waits = 0
        """How often the engine's thread had to wait: anything but 0 asks for more threads."""

    def submit(self, work: Callable[..., None], *arguments: Any) -> None:
        """Runs it on a thread, soon. `work` answers for its own errors."""
        if not self._slots.acquire(blocking=False):
            if not self.waits:
                logger.warning("the engine waits for its codecs; raise codec_threads")
            self.waits += 1
            self._slots.acquire()
        self._threads.submit(work, *arguments).add_done_callback(lambda _: self._slots.release())

    def close(self) -> None:
        """Returns when all that was submitted is done."""
        self._threads.shutdown()
