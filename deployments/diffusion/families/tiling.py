"""Large pictures in tiles: the memory of one tile, whatever the size. Knows no autoencoder.

diffusers has tiling too, but AutoencoderTiny's supposes 4 channels and a factor of 8, and
AutoencoderKL's keeps every decoded tile until the last.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

OVERLAP, LEAST_OVERLAP = 0.25, 8
"""Of a tile's side, and in cells: over so much of it one tile fades into the next. How far an
autoencoder sees is counted in cells: with 4 the embedded model's seams were up to 33 of 255 levels,
with 6 up to 18, with 8 up to 11."""


class Span(NamedTuple):
    """A tile's place along one axis, in latent cells."""

    start: int
    stop: int

    def times(self, scale: int) -> slice:
        """The same where a cell is `scale` pixels."""
        return slice(self.start * scale, self.stop * scale)


@dataclass(frozen=True)
class Tiling:
    """Squares of `side` latent cells; what is no larger than one along an axis is not cut there."""

    side: int

    @property
    def overlap(self) -> int:
        """Cells that neighbours share at least; never more than half of a tile."""
        return min(max(math.ceil(OVERLAP * self.side), LEAST_OVERLAP), self.side // 2)

    def is_needed(self, height: int, width: int) -> bool:
        """Whether so many cells are more than one tile."""
        return max(height, width) > self.side

    def blended(
        self, work: Callable[[Span, Span], torch.Tensor], height: int, width: int
    ) -> torch.Tensor:
        """(n, C, h, w) of the whole, float32, from what `work` makes of each tile.

        `work` gets a tile's rows and columns and gives (n, C, h, w) of it, cells or pixels.
        """
        rows, columns = self.spans(height), self.spans(width)
        whole: torch.Tensor | None = None
        for row in rows:
            for column in columns:
                tile = work(row, column)
                scale = tile.shape[-1] // (column.stop - column.start)
                if whole is None:
                    shape = (*tile.shape[:2], height * scale, width * scale)
                    whole = torch.zeros(shape, device=tile.device)
                down = _share(row, rows, self.overlap, scale).to(tile.device)
                along = _share(column, columns, self.overlap, scale).to(tile.device)
                whole[..., row.times(scale), column.times(scale)] += tile * (down[:, None] * along)
        assert whole is not None
        return whole

    def spans(self, length: int) -> list[Span]:
        """Tiles along an axis of so many cells, all of one length, evenly spaced."""
        if length <= self.side:
            return [Span(0, length)]
        most = self.side - self.overlap
        number = math.ceil((length - self.side) / most) + 1
        starts = [round(i * (length - self.side) / (number - 1)) for i in range(number)]
        return [Span(start, start + self.side) for start in starts]


def _share(span: Span, spans: list[Span], overlap: int, scale: int) -> torch.Tensor:
    """(cells * scale,): the tile's share of every place along the axis; over all tiles they add up
    to 1."""
    total = torch.zeros(spans[-1].stop * scale)
    for other in spans:
        total[other.times(scale)] += _ramps(other, overlap, scale)
    return _ramps(span, overlap, scale) / total[span.times(scale)]


def _ramps(span: Span, overlap: int, scale: int) -> torch.Tensor:
    """Rising from both ends of a tile to 1 where no other tile reaches.

    Slowly at first: near its ends a tile is least what the whole picture would be.
    """
    length = (span.stop - span.start) * scale
    places = torch.arange(length) + 0.5
    risen = torch.minimum(places, length - places).div(overlap * scale).clamp(max=1)
    return risen**2 * (3 - 2 * risen)
