"""The device, and the model that is on it: one at a time, made anew when another is wanted."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from deployments.diffusion.families.family import Family
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.switches.requirements import check_requirements
from deployments.diffusion.switches.switchboard import switch_on

from .flops import forward_flop
from .models import MODELS, TOYS, Model, made_pipeline
from .plan import MODES, Row
from .sizes import with_t5_layers


class Effort(NamedTuple):
    """How much is done for a figure."""

    repeats: int
    """Calls that are timed at most."""
    batches: int
    """Full batches of pictures at saturation."""
    pictures: int
    """Of the diffusers loop, and of the engine with one picture at a time."""
    matrix: int
    """Rows and columns of the matrices of the product."""


USUAL_EFFORT = Effort(repeats=20, batches=6, pictures=4, matrix=8192)
TOY_EFFORT = Effort(repeats=2, batches=2, pictures=2, matrix=256)


class Rig:
    """Where rows are measured."""

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        *,
        toy: bool,
        t5_layers: int | None,
        threads: int,
        cache: str,
    ) -> None:
        """`t5_layers` None is as the model has it; `cache` is a folder for compiled kernels."""
        self.device, self.dtype = device, dtype
        self.effort = TOY_EFFORT if toy else USUAL_EFFORT
        self._models = TOYS if toy else MODELS
        self._t5_layers, self._threads, self._cache = t5_layers, threads, cache
        self._held: tuple[tuple[str, dict[str, Any]], Family] | None = None
        self.forward_flop = lru_cache(self._forward_flop)
        """Of one lane of a model, by name."""

    def model(self, row: Row) -> Model:
        """What is measured in this row."""
        model = self._models[row.model]
        if self._t5_layers is None:
            return model
        return model._replace(parts=with_t5_layers(model.parts, self._t5_layers))

    def settings(self, row: Row, *lane_buckets: int) -> DiffusionSettings:
        """The engine's, for this row."""
        side = self.model(row).side
        return DiffusionSettings(
            id=row.model,
            source="random weights",
            device="cuda" if self.device.type == "cuda" else "cpu",
            dtype=str(self.dtype).removeprefix("torch."),  # type: ignore[arg-type]
            sizes=(f"{side}x{side}",),
            lane_buckets=lane_buckets or (1, 2),
            cache_folder=self._cache,
            threads=self._threads,
            max_queue_s=1e9,  # a refused row would be missing from the figure
            **_mode(row),
        )

    def family(self, row: Row) -> Family:
        """The row's model, as the engine runs it: the last row's, where it is the same."""
        self._forget()
        # What a mode sets besides may change the denoiser for good, as compiled blocks do.
        changes = {name: value for name, value in _mode(row).items() if name != "compile"}
        wanted = (row.model, changes)
        if self._held is None or self._held[0] != wanted:
            settings = self.settings(row)
            check_requirements(settings, self.device)
            pipeline = self.pipeline(row)
            switch_on(pipeline, settings, self.device)
            self._held = (wanted, self.model(row).family(pipeline, self.device, self.dtype))
        return self._held[1]

    def pipeline(self, row: Row) -> Any:
        """diffusers' own pipeline of the row's model; nothing else is on the device."""
        self.empty()
        return made_pipeline(self.model(row), self.device, self.dtype)

    def empty(self) -> None:
        """Takes the model off the device."""
        self._held = None
        self._forget()

    def _forget(self) -> None:
        """Nothing that the last row compiled or allocated is left to the next."""
        torch._dynamo.reset()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def _forward_flop(self, model: str) -> int:
        return forward_flop(self.model(Row("step", model)))


def _mode(row: Row) -> Mapping[str, Any]:
    return MODES[row.mode] if row.mode else {}
