"""The compiled step. Its shapes are declared, so that nothing compiles inside a request."""

import os
import sys
from pathlib import Path

import torch

from deployments.diffusion.families.family import Family
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.step import Denoise, Stack, Step, one_step


def compiled_step(family: Family, settings: DiffusionSettings) -> Step:
    """The step as `settings` want it: eager, with compiled blocks, or compiled as a whole."""
    mode = settings.compile_mode
    if mode is None:
        return one_step
    # Kept between starts: the second finds every kernel of the first.
    cache = Path(settings.cache_folder).expanduser() / "inductor"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
    # Dynamo's default of 8 would leave the ninth shape eager without a word.
    torch._dynamo.config.recompile_limit = 64
    if settings.compile_scope == "regional":
        family.compile_blocks(mode)
        return one_step
    return _whole(mode)


def graphs_compiled() -> int:
    """Graphs that torch.compile has made in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")  # importing it takes seconds; without it, none
    return 0 if dynamo is None else int(dynamo.counters["stats"]["unique_graphs"])


def _whole(mode: str) -> Step:
    compiled: Step = torch.compile(one_step, mode=mode, dynamic=False)

    def step(
        denoise: Denoise,
        state: torch.Tensor,
        stack: Stack,
        numbers: torch.Tensor,
        noise: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        torch.compiler.cudagraph_mark_step_begin()
        state, output = compiled(denoise, state, stack, numbers, noise)
        # A CUDA graph writes the next step's result where this one's is.
        return state.clone(), output.clone()

    return step
