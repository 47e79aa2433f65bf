"""Reception: rows arrive from any thread, and are settled in order on a thread of its own."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from deployments.diffusion.desk import Desk
from deployments.diffusion.faults import lost
from deployments.diffusion.progress import notify, progress_of
from deployments.diffusion.queue import StepQueue
from deployments.diffusion.run import Run, Ticket, answer
from deployments.errors import EngineFailed, Requeue, StepwiseError
from deployments.requests import PreparedImage, Row

logger = logging.getLogger(__name__)


class Reception:
    """Between `submit` and the queue."""

    def __init__(
        self,
        desk: Desk,
        queue: StepQueue[Run],
        changed: threading.Condition,
        running_lane_calls: Callable[[], float],
    ) -> None:
        """`changed` guards the queue, and is notified of every arrival."""
        self._desk = desk
        self._queue = queue
        self._changed = changed
        self._running_lane_calls = running_lane_calls
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stepwise-desk")
        self._closed: EngineFailed | None = None
        self._arrived = False
        self.arriving = 0
        self.requeued = 0

    def receive(self, row: Row, prepared: PreparedImage | None, ticket: Ticket) -> None:
        """Returns at once; the ticket's future gets the answer if there is no room."""
        with self._changed:
            if self._closed is not None:
                answer(ticket.future, self._closed)
                return
            self.arriving += 1
        self._thread.submit(self._settle, row, prepared, ticket)

    def somebody_arrived(self) -> bool:
        """Whether a row has come to the queue since this was last asked."""
        arrived, self._arrived = self._arrived, False
        return arrived

    def close(self, error: EngineFailed) -> None:
        """Answers later rows with `error`, and waits for those being settled."""
        with self._changed:
            self._closed = error
        self._thread.shutdown()

    def _settle(self, row: Row, prepared: PreparedImage | None, ticket: Ticket) -> None:
        try:
            if not ticket.future.done():
                self._enqueue(self._desk.settle(row, prepared, ticket, self._check_room))
        except StepwiseError as error:
            logger.info("row %s refused: %s", row.id, error.message)
            self.requeued += isinstance(error, Requeue)
            answer(ticket.future, error)
        except Exception:
            logger.exception("row %s could not be settled", row.id)
            answer(ticket.future, lost(row))
        with self._changed:
            self.arriving -= 1
            self._changed.notify_all()

    def _check_room(self, run: Run) -> None:
        with self._changed:
            self._queue.check(run.lane_calls_left, run.weight, run.key)

    def _enqueue(self, run: Run) -> None:
        with self._changed:
            self._queue.push(run)
            self._arrived = True
            position = self._queue.position(run, run.submitted_s)
            eta_s = self._queue.eta_s(run, self._running_lane_calls(), run.submitted_s)
        notify(run, progress_of(run, "waiting", eta_s=eta_s, queue_position=position))
