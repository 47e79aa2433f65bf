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

    def encode(self, *, images: int, text_sets: int) -> tuple[list[Member], Outcome[Run]]:
        """Members for all but those beyond so many input images, and so many sets of adapters that
        must be put on the text encoders."""
        late = self._late(images, text_sets)
        joining = [run for run in self.runs if run not in late]
        members: list[Member] = []

        def encode(some: Sequence[Run]) -> None:
            members.extend(self._encoder.encode(some))

        outcome = isolate([run for run in joining if run not in self._parked], encode)
        members += [self._parked.pop(run) for run in joining if run in self._parked]
        self.runs = [run for run in self.runs if run in late]
        return members, outcome

    def _late(self, images: int, text_sets: int) -> set[Run]:
        fresh = [run for run in self.runs if run not in self._parked]
        late = set([run for run in fresh if run.prepared is not None][images:])
        wanted = {run: self._encoder.adapters_to_put_on(run) for run in fresh if run not in late}
        sets = list(dict.fromkeys(uses for uses in wanted.values() if uses is not None))
        return late | {run for run, uses in wanted.items() if uses in sets[text_sets:]}
