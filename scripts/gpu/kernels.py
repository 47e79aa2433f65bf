"""When kernels run on a GPU, as torch's profiler saw it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batching.spans import Span, covered_s
from torch.profiler import profile

_COPIES = ("Memcpy", "Memset")


def kernel_spans(profiler: profile) -> list[Span]:
    """Begin and end of each kernel on any stream. Copies are none."""
    assert profiler.profiler is not None
    results = profiler.profiler.kineto_results
    assert results is not None
    return spans_of(results.events())


def spans_of(events: Sequence[Any]) -> list[Span]:
    """The same of the profiler's events. Seconds are from the first: in seconds since 1970 a float
    is no finer than a short kernel."""
    kernels = [event for event in events if _is_kernel(event)]
    first_ns = min((event.start_ns() for event in kernels), default=0)
    return [
        ((event.start_ns() - first_ns) / 1e9, (event.end_ns() - first_ns) / 1e9)
        for event in kernels
    ]


def idle_share(kernels: Sequence[Span]) -> float:
    """The share of the time from the first kernel's begin to the last one's end in which none
    ran."""
    begun_s, ended_s = min(begin for begin, _ in kernels), max(end for _, end in kernels)
    return 1 - covered_s(kernels) / (ended_s - begun_s)


def _is_kernel(event: Any) -> bool:
    return (
        event.device_type().name == "CUDA"
        and not event.is_user_annotation()
        and not event.name().startswith(_COPIES)
    )
