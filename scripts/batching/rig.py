"""The model, and every system that serves it: opened when first needed, closed together."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self

import msgspec
import numpy as np
import torch
from likeness import is_other_picture
from numpy.typing import NDArray

from deployments.diffusion.loading import load_family
from deployments.diffusion.settings import DiffusionSettings
from deployments.imaging.codecs import decode

from . import curves, stepwise
from .batcher import Batcher
from .pipeline import Pipeline
from .policies import Policy, arrived_together, oldest_key, one_at_a_time, shortest_key
from .pool import Pool
from .spans import ModelClock
from .systems import PREVIEWED, System
from .trace import Form, Job

FIRST_COME = 1e-6
"""Steps of waiting that are worth half of the work: so few that arrival alone counts."""

POOL_THREADS = 8


class Rig:
    """What is measured: one model on one device."""

    def __init__(self, settings: DiffusionSettings, *, batch_wait_s: float) -> None:
        """`settings` are the engine's; its source is a folder and its device settled."""
        self._settings, self._batch_wait_s = settings, batch_wait_s
        self._device = torch.device(settings.device)
        self._closing = ExitStack()
        self._is_warm_for_batches = False
        self._systems: dict[str, System] = {}
        self._references: dict[str, NDArray[np.uint8]] = {}
        self.clock = ModelClock(self._device)
        self.telling = ModelClock(torch.device("cpu"))
        """Of the engine's thread, whatever the device."""

    def __enter__(self) -> Self:
        # A compiled pipeline is called from the thread that warmed it: CUDA graphs are that
        # thread's own.
        self._device_thread = self._closing.enter_context(ThreadPoolExecutor(1))
        self._codecs = self._closing.enter_context(ThreadPoolExecutor(self._settings.codec_threads))
        self._pipeline = self._device_thread.submit(
            self._loaded, self._settings.compile_mode
        ).result()
        autoencoder, text_encoder = self._pipeline.model_classes
        self._closing.enter_context(
            self.clock.watching(
                stepwise.denoiser(self._settings),
                (autoencoder, "encode"),
                (autoencoder, "decode"),
                (text_encoder, "forward"),
            )
        )
        self._closing.enter_context(self.telling.watching(stepwise.TELLING))
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def most_rows(self) -> int:
        """Rows of a full batch, each with two lanes."""
        return self._settings.max_lanes // 2

    @property
    def form(self) -> Form:
        """What the model settles of every row."""
        return self._pipeline.form

    def system(self, name: str) -> System:
        """A warm system."""
        if name not in self._systems:
            self._systems[name] = self._opened(name)
        return self._systems[name]

    def curves(self) -> curves.Curves:
        """What the model's parts cost alone."""
        family = load_family(self._settings)
        measured = curves.measured(family, self._settings)
        del family
        gc.collect()
        return measured

    def bare(self, job: Job) -> NDArray[np.uint8]:
        """The picture of a pipeline that serves nobody else, (height, width, 3)."""
        picture: NDArray[np.uint8] = self._device_thread.submit(
            self._pipeline.pictures, [job]
        ).result()[0]
        return picture

    def is_wrong(self, job: Job, content: bytes) -> bool:
        """Whether this PNG is another picture than the job's own."""
        if job.row.id not in self._references:
            self._references[job.row.id] = self.bare(job)
        found = decode(content, param="picture", max_megapixels=32)
        return is_other_picture(found, self._references[job.row.id])

    def _loaded(self, compile_mode: str | None) -> Pipeline:
        dtype = getattr(torch, self._settings.dtype)
        source = self._settings.source
        pipeline = Pipeline(source, self._device, dtype, compile_mode, self.clock)
        pipeline.warm_up(1)
        return pipeline

    def _opened(self, name: str) -> System:
        if name == "threads":
            return self._pool()
        policies: dict[str, Policy] = {
            "sequential": one_at_a_time,
            "static_per_key": oldest_key,
            "static_sjf": shortest_key,
        }
        if name in policies:
            return self._batcher(policies[name])
        if name == "serve_batch_naive":
            return self._batcher(arrived_together(self._batch_wait_s), self._batch_wait_s)
        settings = self._settings
        if name == "stepwise_fifo":
            settings = msgspec.structs.replace(settings, ageing_steps=FIRST_COME)
        return self._closing.enter_context(stepwise.opened(settings, watched=name == PREVIEWED))

    def _batcher(self, policy: Policy, wait_s: float = 0.0) -> System:
        if not self._is_warm_for_batches:  # where it is compiled, that takes minutes
            self._device_thread.submit(self._pipeline.warm_up, self.most_rows).result()
            self._is_warm_for_batches = True
        batcher = Batcher(
            self._pipeline,
            policy,
            most_rows=self.most_rows,
            device_thread=self._device_thread,
            codecs=self._codecs,
            wait_s=wait_s,
        )
        return System(batcher.submit, batcher.work)

    def _pool(self) -> System:
        # Not compiled: a CUDA graph belongs to one thread, and these are eight.
        threads = self._closing.enter_context(ThreadPoolExecutor(POOL_THREADS))
        pool = Pool(self._loaded(None), threads)
        return System(pool.submit, pool.work)
