"""What a replica tells those who send it rows: the work that is here, and what more would cost."""

import msgspec

from deployments.requests import Row


class WorkReport(msgspec.Struct, frozen=True, kw_only=True):
    """One replica at one moment. Lanes are of the size of `unit_pixels`."""

    at: float
    """Unix seconds, by the replica's clock."""
    rows: int
    """How many have come so far: one that came and went since the last report shows here alone."""
    work_s: float
    """Of all rows that are here, running or not, in seconds of full batches."""
    lanes: float
    """That they take, if there is room ..."""
    limit: float
    """... and how many there are in a full batch."""
    lane_call_s: float
    """What one lane of one model call costs in a full batch."""
    unit_pixels: int
    lanes_of_row: int
    """Lanes that a guided row takes."""
    adapters: tuple[str, ...]
    """In main memory, or being read."""
    read_s: float
    """How long it takes to read one; 0 before any was read."""

    def lanes_of(self, row: Row) -> float:
        """How many the row takes here."""
        return self._area(row) * (self.lanes_of_row if row.guidance_scale > 1 else 1)

    def work_of(self, row: Row) -> float:
        """About how many seconds it adds: one model call a step, where some samplers make two."""
        calls = row.num_inference_steps * (1.0 if row.strength is None else row.strength)
        guided = row.guidance_end - row.guidance_start if row.guidance_scale > 1 else 0.0
        lanes = self._area(row) * (1.0 + (self.lanes_of_row - 1) * guided)
        return calls * lanes * self.lane_call_s

    def _area(self, row: Row) -> float:
        return max(row.width * row.height / self.unit_pixels, 1.0)
