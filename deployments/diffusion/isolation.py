"""Work on many items at once, in which one bad item fails alone.

What fails together is tried again in halves, down to the single item that is the cause. Memory
that runs out is the same case: half the items need half of it.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Fault(Generic[T]):
    """An item that fails alone."""

    item: T
    error: Exception
    trace: str
    """Where it was raised, for the log."""


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What became of the items."""

    faults: list[Fault[T]]
    splits: int = 0
    """How often work was halved ..."""
    out_of_memory: bool = False
    """... and whether it was for memory."""

    def told_of(self, other: Callable[[T], U]) -> "Outcome[U]":
        """The same of what the items stand for."""
        faults = [Fault(other(fault.item), fault.error, fault.trace) for fault in self.faults]
        return Outcome(faults, self.splits, self.out_of_memory)


def isolate(items: Sequence[T], work: Callable[[Sequence[T]], None]) -> Outcome[T]:
    """Does `work` on all items, at once if it can be. `work` must change nothing when it raises.

    Raises torch.AcceleratorError: after it every later call on the device fails as well.
    """
    if not items:
        return Outcome([])
    try:
        work(items)
        return Outcome([])
    except torch.AcceleratorError:
        raise
    except Exception as error:
        # As text: the frames of a traceback hold the tensors of the failed attempt.
        trace, fault = traceback.format_exc(), error.with_traceback(None)
    out_of_memory = isinstance(fault, torch.OutOfMemoryError)
    if out_of_memory and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(items) == 1:
        return Outcome([Fault(items[0], fault, trace)], out_of_memory=out_of_memory)
    middle = len(items) // 2
    first, second = isolate(items[:middle], work), isolate(items[middle:], work)
    return Outcome(
        [*first.faults, *second.faults],
        splits=1 + first.splits + second.splits,
        out_of_memory=out_of_memory or first.out_of_memory or second.out_of_memory,
    )
