"""How much memory a piece of work takes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """The most that torch had allocated at once for `work`, beyond what it held before.

    On a CPU the profiler tells every allocation, so that the work takes longer.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    found = profiled.profiler.kineto_results.events()
    allocations = [event for event in found if event.name() == "[memory]"]
    allocations.sort(key=lambda event: event.start_ns())
    return int(max(accumulate(event.nbytes() for event in allocations), default=0))
