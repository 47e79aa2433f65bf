"""How much of a replica's capacity is used, from a counter of work that only rises."""


class WorkMeter:
    """The load since it was last asked."""

    def __init__(self, now_s: float) -> None:
        self._asked_s, self._done_s = now_s, 0.0

    def load(self, done_s: float, now_s: float) -> float:
        """Seconds of measured work done per second: 1 is a replica whose batch is always full.

        `done_s` is all the work done so far, `now_s` the time on the clock of the constructor.
        """
        passed_s, work_s = now_s - self._asked_s, done_s - self._done_s
        self._asked_s, self._done_s = now_s, done_s
        return work_s / passed_s if passed_s > 0 else 0.0
