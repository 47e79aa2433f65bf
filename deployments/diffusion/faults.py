"""What a client is told when its row fails. What went wrong inside is for the log."""

from collections.abc import Sequence

import torch

from deployments.errors import EngineFailed, GenerationFailed, StepwiseError
from deployments.requests import AdapterUse, Row


def lost(row: Row) -> EngineFailed:
    """The row failed through no fault of its own, as far as anybody knows."""
    return EngineFailed(f"row {row.id} was lost through a fault here; ask again")


def failure(row: Row, error: Exception) -> StepwiseError:
    """The row failed alone, with no other beside it."""
    if isinstance(error, StepwiseError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return GenerationFailed(
            f"row {row.id} at {row.width}x{row.height} needs more memory than is free here even "
            "alone; use a smaller size"
        )
    return lost(row)


def no_memory_for(uses: Sequence[AdapterUse]) -> EngineFailed:
    """Adapters that found no memory, also with all others taken off."""
    names = " and ".join(repr(use.name) for use in uses)
    return EngineFailed(
        f"lora {names} needs more memory than is free here with no other on; ask again, since "
        "another replica may have it, or use fewer adapters"
    )
