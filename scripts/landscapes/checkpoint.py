"""The state of one training stage, written so that a kill at any moment leaves a whole file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` beside `path`, then move it into place."""
    unfinished = path.with_suffix(".part")
    torch.save(state, unfinished)
    unfinished.rename(path)


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """A state written by `save`."""
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state
