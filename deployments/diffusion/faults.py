"""What a client is told when its row fails. What went wrong inside is for the log."""

import torch

from deployments.errors import EngineFailed, GenerationFailed, StepwiseError
from deployments.requests import Row


def lost(row: Row) -> EngineFailed:
    """The row failed through no fault of its own, as far as anybody knows."""
    return EngineFailed(f"row {row.id} was lost through a fault here; ask again")


def failure(row: Row, error: Exception) -> StepwiseError:
    """The row failed alone, with no other beside it."""
    if isinstance(error, torch.OutOfMemoryError):
        return GenerationFailed(
            f"row {row.id} at {row.width}x{row.height} needs more memory than is free here even "
            "alone; use a smaller size"
        )
    return lost(row)
