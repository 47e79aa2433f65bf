"""What one caller knows of each replica: what it told last, and what was sent there since.

It knows no Ray. Times are seconds on the caller's own clock.
"""

from collections import deque
from typing import NamedTuple

from deployments.diffusion.report import WorkReport
from deployments.requests import Row
from serve_app.choice import Prospect

A_MOMENT_S = 1.0
"""How long a row may be on its way. One that comes back sooner was refused where it was sent."""
READ_S = 1.0
"""What reading an adapter is taken to cost before any replica has measured it."""


class Sent(NamedTuple):
    """A row, and when it was sent to a replica."""

    row: Row
    at: float


class ReplicaWork:
    """One replica."""

    def __init__(self) -> None:
        self.report: WorkReport | None = None
        self._asked_at = 0.0
        self._sent: deque[Sent] = deque()

    def hear(self, report: WorkReport, *, asked_at: float = 0.0) -> None:
        """What it tells, in which are the rows that were sent before it was asked."""
        if self.report is None or report.at > self.report.at:
            self.report = report
            self._asked_at = max(asked_at, self._asked_at)

    def note(self, row: Row, now: float) -> None:
        """The row is being sent there, unless it was noted already."""
        while self._sent and self._sent[0].at <= now - A_MOMENT_S:
            self._sent.popleft()
        if not self._was_sent(row, now):
            self._sent.append(Sent(row, now))

    def prospect(self, row: Row, now: float, read_s: float = READ_S) -> Prospect:
        """What the row meets there; `read_s` is what reading an adapter takes."""
        report, since = self.report, max(self._asked_at, now - A_MOMENT_S)
        coming = [sent.row for sent in self._sent if sent.at > since]
        there = {use.name for other in coming for use in other.adapters}
        there.update(() if report is None else report.adapters)
        lacking = {use.name for use in row.adapters} - there
        met = Prospect(read_s=len(lacking) * read_s, refused=self._was_sent(row, now))
        if report is None:
            return met
        lanes = report.lanes + sum(map(report.lanes_of, coming))
        return met._replace(
            full=min(lanes / report.limit, 1.0),
            work_s=report.work_s + sum(map(report.work_of, coming)),
        )

    def _was_sent(self, row: Row, now: float) -> bool:
        return any(sent.row.id == row.id and sent.at > now - A_MOMENT_S for sent in self._sent)
