"""How many images wait for a replica's threads, and when one more is too many."""

from deployments.errors import ImagingFull

_FIRST_GUESS_S = 0.1
_NEWEST_SHARE = 0.2


class Admission:
    """Counts images in and out. Knows no clock and no thread; belongs to one event loop."""

    def __init__(self, *, threads: int, max_waiting: int) -> None:
        self._threads, self._max_waiting = threads, max_waiting
        self._inside = 0
        self._mean_s = _FIRST_GUESS_S

    @property
    def waiting(self) -> int:
        """Images that no thread has begun."""
        return max(self._inside - self._threads, 0)

    def enter(self) -> None:
        """Raises ImagingFull, with the seconds until a thread is free, where too many wait."""
        if self._inside >= self._threads + self._max_waiting:
            pending_s = self._mean_s * self._inside / self._threads
            raise ImagingFull(
                f"{self.waiting} images wait to be prepared here, and {self._max_waiting} may: "
                f"about {pending_s:.1f} s of work; try again later",
                pending_s=pending_s,
            )
        self._inside += 1

    def leave(self, took_s: float | None = None) -> None:
        """One that entered is done, after so long on a thread; None if it never got one."""
        self._inside -= 1
        if took_s is not None:
            self._mean_s += _NEWEST_SHARE * (took_s - self._mean_s)
