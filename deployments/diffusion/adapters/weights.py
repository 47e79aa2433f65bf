"""What adapters add to a model's weights. Tensors only: it knows no files and no model."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from deployments.requests import AdapterUse


class Delta(NamedTuple):
    """What one layer's weight is raised by: `factor * up @ down`."""

    down: torch.Tensor
    """(rank, in), of a convolution (rank, in, h, w)."""
    up: torch.Tensor
    """(out, rank), of a convolution (out, rank, 1, 1)."""
    factor: float = 1.0
    """The file's alpha over its rank."""

    @property
    def rank(self) -> int:
        """What it costs."""
        return len(self.down)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class LoadedAdapter:
    """An adapter in main memory, in the precision of its file."""

    name: str
    parts: Mapping[str, Mapping[str, Delta]]
    """By the part of the pipeline, as `unet` or `text_encoder`, and by the layer in it."""


@dataclass(frozen=True, slots=True, eq=False)
class AdapterSet:
    """The adapters of a row, each with its scale, ordered by name."""

    uses: tuple[AdapterUse, ...] = ()
    loaded: tuple[LoadedAdapter, ...] = ()
    """As long as the row holds them, they need not be read again."""

    def plus(self, use: AdapterUse, adapter: LoadedAdapter) -> "AdapterSet":
        """These, and one whose name comes after theirs."""
        return AdapterSet((*self.uses, use), (*self.loaded, adapter))

    def touching(self, parts: Collection[str]) -> tuple[AdapterUse, ...]:
        """Those that change one of these parts."""
        return tuple(
            use
            for use, adapter in zip(self.uses, self.loaded, strict=True)
            if not adapter.parts.keys().isdisjoint(parts)
        )

    def deltas(self, part: str) -> dict[str, list[Delta]]:
        """By the layer of a part, what each adapter adds, its scale counted in."""
        found: dict[str, list[Delta]] = {}
        for use, adapter in zip(self.uses, self.loaded, strict=True):
            for layer, delta in adapter.parts.get(part, {}).items():
                scaled = delta._replace(factor=delta.factor * use.scale)
                found.setdefault(layer, []).append(scaled)
        return found


NO_ADAPTERS = AdapterSet()
