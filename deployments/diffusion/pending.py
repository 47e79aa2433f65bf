"""The work that is in an engine, for those who send rows to it or elsewhere."""

from collections.abc import Iterable

from msgspec.structs import replace

from deployments.diffusion.adapters.shelf import AdapterShelf
from deployments.diffusion.capacity import Capacity
from deployments.diffusion.families.family import Family, Size
from deployments.diffusion.queue import StepQueue
from deployments.diffusion.reception import Reception
from deployments.diffusion.report import WorkReport
from deployments.diffusion.run import BatchKey, Run


class Pending:
    """Of one engine; what it looks at is guarded by the engine's lock."""

    def __init__(
        self,
        family: Family,
        unit: Size,
        *,
        capacity: Capacity,
        queue: StepQueue[Run],
        reception: Reception,
        shelf: AdapterShelf,
    ) -> None:
        """`unit` is the size whose lane costs 1."""
        self._capacity, self._queue = capacity, queue
        self._reception, self._shelf = reception, shelf
        self._unit_pixels, self._lanes_of_row = unit[0] * unit[1], family.lanes_of_row
        factor = family.latent_factor
        self._unit_key = BatchKey(unit[1] // factor, unit[0] // factor, text_chunks=1)

    def report(self, at: float, occupying: Iterable[Run]) -> WorkReport:
        """`at` is now, in Unix seconds; `occupying` are the rows that have lanes."""
        runs, lane_call_s = list(occupying), self._capacity.lane_call_s
        work_s = sum(run.lane_calls_left * lane_call_s(run.key) for run in runs)
        arriving = self._reception.arriving.values()
        being_read = (use.name for row in arriving for use in row.adapters)
        settled = WorkReport(
            at=at,
            rows=self._reception.received,
            work_s=self._queue.pending_s() + work_s,
            lanes=self._queue.weight + sum(run.weight for run in runs),
            limit=self._capacity.limit(self._unit_key),
            lane_call_s=lane_call_s(self._unit_key),
            unit_pixels=self._unit_pixels,
            lanes_of_row=self._lanes_of_row,
            adapters=tuple(dict.fromkeys((*self._shelf.names, *being_read))),
            read_s=self._shelf.read_s,
        )
        return replace(
            settled,
            work_s=settled.work_s + sum(map(settled.work_of, arriving)),
            lanes=settled.lanes + sum(map(settled.lanes_of, arriving)),
        )
