"""The one thread that owns the device: it loads, compiles, warms up and steps the engine."""

import logging
import threading
from concurrent.futures import Future
from typing import Self

import torch

from deployments.diffusion.engine import Engine
from deployments.diffusion.loading import load_engine
from deployments.diffusion.settings import DiffusionSettings
from deployments.requests import ModelCard

logger = logging.getLogger(__name__)


class EngineWorker:
    """An engine on a thread of its own. CUDA-graph trees are thread-local, so all is done there."""

    def __init__(self, settings: DiffusionSettings) -> None:
        """Blocks until the model is warm; raises whatever loading raises."""
        self._settings = settings
        self._stopped = threading.Event()
        self._ready: Future[tuple[Engine, ModelCard]] = Future()
        self._thread = threading.Thread(
            target=self._work, name=f"stepwise-engine-{settings.id}", daemon=True
        )
        self._thread.start()
        self.engine, self.card = self._ready.result()

    def check(self) -> None:
        """Raises RuntimeError when the thread has died or its step takes too long."""
        if not self._thread.is_alive():
            raise RuntimeError(
                f"model {self._settings.id}: the engine's thread has died; see the log"
            )
        age_s = self.engine.step_age_s()
        if age_s > self._settings.stalled_after_s:
            raise RuntimeError(
                f"model {self._settings.id}: a step has taken {age_s:.0f} s; "
                f"stalled_after_s is {self._settings.stalled_after_s:g}"
            )

    def close(self) -> None:
        """Ends the thread after the step in flight."""
        self._stopped.set()
        self.engine.wake()
        self._thread.join()
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @torch.inference_mode()
    def _work(self) -> None:
        try:
            engine, card = load_engine(self._settings)
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result((engine, card))
        try:
            while not self._stopped.is_set():
                if not engine.step():
                    engine.wait_for_work(self._stopped.is_set)
        except Exception:
            logger.exception("model %s: the engine's thread died", self._settings.id)
            engine.close("the engine has died and is being replaced; ask again")
