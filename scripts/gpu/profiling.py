"""Where the time of one row goes."""

from __future__ import annotations

import time

import torch
from batching.spans import covered_s
from torch.profiler import ProfilerActivity, profile

from .kernels import kernel_spans
from .measure import MEASURES
from .plan import Row
from .rig import Rig

SHOWN = 30


@torch.inference_mode()
def profiled(rig: Rig, row: Row) -> str:
    """A table of what took longest, kernels on a GPU; and how much of the time any kernel ran."""
    on_cuda = rig.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    rig.effort = rig.effort._replace(repeats=3, batches=2, pictures=1)
    with MEASURES[row.kind](rig, row) as work, profile(activities=activities) as profiler:
        begun_s = time.perf_counter()
        work()
        if on_cuda:
            torch.cuda.synchronize()
        wall_s = time.perf_counter() - begun_s
    averages = profiler.key_averages()
    order = "self_device_time_total" if on_cuda else "self_cpu_time_total"
    table = averages.table(sort_by=order, row_limit=SHOWN, max_name_column_width=80)
    if not on_cuda:
        return str(table)
    kernels_s = covered_s(kernel_spans(profiler))
    return (
        f"{table}\n{row.name}: kernels ran for {kernels_s:.3f} of {wall_s:.3f} s, "
        f"{kernels_s / wall_s:.1%}; the profiler slows down what the host does\n"
    )
