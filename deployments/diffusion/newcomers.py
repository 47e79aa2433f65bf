"""Newcomers: rows that the queue let in, on their way into a batch.

They join a few at a time, so that encoding never holds up the running rows for longer than a step.
"""

from collections.abc import Collection, Iterable, Sequence

from deployments.diffusion.batch import Member
from deployments.diffusion.encoder import Encoder
from deployments.diffusion.isolation import Outcome, isolate
from deployments.diffusion.run import Run


class Newcomers:
    """Rows between the queue and a batch, and the tensors of rows that were in one before."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._parked: dict[Run, Member] = {}
        self.runs: list[Run] = []

    def add(self, runs: Iterable[Run]) -> None:
        """These are to join."""
        self.runs += runs

    def park(self, members: Iterable[Member]) -> None:
        """These left a batch half done. Once the queue lets them in again, they go on."""
        self._parked |= {member.run: member for member in members}

    def drop(self, gone: Collection[Run]) -> None:
        """Nobody waits for these any more."""
        self.runs = [run for run in self.runs if run not in gone]
        for run in gone:
            self._parked.pop(run, None)

    def encode(self, images: int) -> tuple[list[Member], Outcome[Run]]:
        """Members for all that have no input image, and for so many that have one."""
        late = set([run for run in self.runs if self._has_image(run)][images:])
        joining = [run for run in self.runs if run not in late]
        members: list[Member] = []

        def encode(some: Sequence[Run]) -> None:
            members.extend(self._encoder.encode(some))

        outcome = isolate([run for run in joining if run not in self._parked], encode)
        members += [self._parked.pop(run) for run in joining if run in self._parked]
        self.runs = [run for run in self.runs if run in late]
        return members, outcome

    def _has_image(self, run: Run) -> bool:
        return run.prepared is not None and run not in self._parked
