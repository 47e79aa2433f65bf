"""The imaging replica: the shim between Ray Serve and `prepare`.

A plain class: `serve_app/app.py` makes a deployment of it.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from deployments.imaging.kernels import warm_up
from deployments.imaging.prepare import prepare
from deployments.imaging.settings import ImagingSettings
from deployments.requests import PreparedImage, PrepareSpec


class Imaging:
    """A CPU replica that makes input images ready for the diffusion deployment."""

    def __init__(self, settings: ImagingSettings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(_num_threads(), thread_name_prefix="imaging")
        warm_up()

    async def prepare(self, image: bytes, mask: bytes | None, spec: PrepareSpec) -> PreparedImage:
        """`prepare.prepare` on a thread, so that the replica's event loop stays free.

        Raises `InvalidImage`, as that does.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, prepare, image, mask, spec, self._settings)


def _num_threads() -> int:
    # Ray sets OMP_NUM_THREADS to a replica's num_cpus, unless the operator has set it.
    # Codecs and kernels run without the GIL, so each thread fills one of those CPUs.
    return int(os.environ.get("OMP_NUM_THREADS", 0)) or os.cpu_count() or 1
