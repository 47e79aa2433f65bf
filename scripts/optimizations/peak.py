"""How much memory a piece of work takes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from deployments.diffusion.families.family import Family


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """The most that torch took at once for `work`, beyond what it held before.

    On CUDA with all that is set apart for graphs which were recorded before; tensors in there count
    as free. On a CPU the profiler tells every allocation, so that the work takes longer.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_reserved(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    found = profiled.profiler.kineto_results.events()
    allocations = [event for event in found if event.name() == "[memory]"]
    allocations.sort(key=lambda event: event.start_ns())
    return int(max(accumulate(event.nbytes() for event in allocations), default=0))


def held_bytes(family: Family) -> int:
    """What torch holds while nothing runs: on a CPU the weights, counted."""
    if family.device.type == "cuda":
        return torch.cuda.memory_allocated(family.device)
    parts = [p for p in family.pipeline.components.values() if isinstance(p, torch.nn.Module)]
    return sum(_bytes(weight) for part in parts for weight in (*part.parameters(), *part.buffers()))


def _bytes(tensor: Any) -> int:
    """Of a quantized tensor, those of the tensors in it."""
    if type(tensor) in (torch.Tensor, torch.nn.Parameter):
        return int(tensor.nbytes)
    return sum(_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
