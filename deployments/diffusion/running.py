"""The rows that are being stepped: a batch for each key.

Only the engine's thread changes it, by assignments and never in place, so any thread may ask for
its `runs`; the rest is for the engine's thread.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence

from deployments.diffusion.batch import Batch, Layout, Member
from deployments.diffusion.capacity import Capacity
from deployments.diffusion.run import Run


class Running:
    """Batches by key; those that have lost their last row stay until `drop_empty`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._batches: dict[Hashable, Batch] = {}

    @property
    def runs(self) -> list[Run]:
        """All that are in a batch."""
        return [member.run for batch in self._batches.values() for member in batch.members]

    def by_key(self) -> Mapping[Hashable, Sequence[Run]]:
        """The same, by what they share."""
        return {batch.key: [member.run for member in batch.members] for batch in self._busy()}

    def batch(self, key: Hashable) -> Batch:
        """Of the rows of that key; raises KeyError where there are none."""
        return self._batches[key]

    def join(self, members: Sequence[Member]) -> None:
        """They are in their key's next step."""
        for key in {member.run.key for member in members}:
            batch = self._batches.get(key) or Batch(self._layout)
            batch.join([member for member in members if member.run.key == key])
            self._batches = {**self._batches, key: batch}

    def leave(self, leaving: Callable[[Run], bool]) -> list[Member]:
        """Takes out the members for whose run `leaving` is true."""
        return [member for batch in self._batches.values() for member in batch.leave(leaving)]

    def drop_empty(self) -> None:
        """Frees what batches without rows hold."""
        self._batches = {batch.key: batch for batch in self._busy()}

    def clear(self) -> None:
        """Nobody runs any more."""
        self._batches = {}

    def shortest_step_s(self, capacity: Capacity) -> float | None:
        """What the next step takes at least, in seconds; None where nobody runs."""
        return min((capacity.step_s(batch.key, batch.load) for batch in self._busy()), default=None)

    def _busy(self) -> list[Batch]:
        return [batch for batch in self._batches.values() if batch.members]
