"""Reception: rows arrive from any thread, and are settled on a thread of its own.

They are in order, but for those whose adapters must be read from their files. That takes seconds:
it is done on another thread, and who waits for it lets others pass.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from deployments.diffusion.adapters.shelf import AdapterShelf, FailedFile
from deployments.diffusion.adapters.weights import LoadedAdapter
from deployments.diffusion.desk import Desk
from deployments.diffusion.faults import lost
from deployments.diffusion.progress import notify, progress_of
from deployments.diffusion.queue import StepQueue
from deployments.diffusion.run import Run, Ticket, answer
from deployments.errors import AdapterFailed, ReplicaLost, Requeue, StepwiseError
from deployments.logs import about
from deployments.requests import PreparedImage, Row

logger = logging.getLogger(__name__)


class Reception:
    """Between `submit` and the queue."""

    def __init__(
        self,
        desk: Desk,
        shelf: AdapterShelf,
        queue: StepQueue[Run],
        changed: threading.Condition,
        running_lane_calls: Callable[[], float],
    ) -> None:
        """`shelf` is the desk's; `changed` guards the queue, and is notified of every arrival."""
        self._desk = desk
        self._shelf = shelf
        self._queue = queue
        self._changed = changed
        self._running_lane_calls = running_lane_calls
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stepwise-desk")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="stepwise-adapters")
        self.arriving: dict[Ticket, Row] = {}
        """Rows that are not settled yet; under the lock of `changed`."""
        self._unread: dict[str, list[Run]] = {}
        """Those of them that wait for an adapter's file, by its name."""
        self._closed: ReplicaLost | None = None
        self._arrived = False
        self.received = 0
        self.requeued = 0

    def receive(self, row: Row, prepared: PreparedImage | None, ticket: Ticket) -> None:
        """Returns at once; the ticket's future gets the answer if there is no room."""
        with self._changed:
            self.received += 1
            if self._closed is not None:
                answer(ticket.future, self._closed)
                return
            self.arriving[ticket] = row
        self._thread.submit(self._settle, row, prepared, ticket)

    def somebody_arrived(self) -> bool:
        """Whether a row has come to the queue since this was last asked."""
        arrived, self._arrived = self._arrived, False
        return arrived

    def close(self, error: ReplicaLost) -> None:
        """Answers later rows with `error`, and those that are not settled yet.

        Waits for what is at work: one row, and one file.
        """
        with self._changed:
            self._closed = error
            unread, self._unread = self._unread, {}
        for runs in unread.values():
            self._go_on(runs)
        self._reader.shutdown(cancel_futures=True)
        self._thread.shutdown()

    def _settle(
        self,
        row: Row,
        prepared: PreparedImage | None,
        ticket: Ticket,
        run: Run | None = None,
        failed: FailedFile | None = None,
    ) -> None:
        """`run` is the row's, if it has begun and waited for a file, which may have `failed`."""
        try:
            self._check_open()
            if failed is not None:
                raise AdapterFailed(failed.message)
            if not ticket.future.done():
                run = run or self._begun(row, prepared, ticket)
                name = self._desk.put_on_adapters(run)
                if name is not None:
                    self._wait_for(name, run)
                    return
                self._desk.draw_noise(run)
                self._enqueue(run)
        except StepwiseError as error:
            logger.info("row %s refused: %s", row.id, error.message, extra=about(row))
            self.requeued += isinstance(error, Requeue)
            answer(ticket.future, error)
        except Exception:
            logger.exception("row %s could not be settled", row.id, extra=about(row))
            answer(ticket.future, lost(row))
        with self._changed:
            self.arriving.pop(ticket, None)  # unless it is in the queue now
            self._changed.notify_all()

    def _begun(self, row: Row, prepared: PreparedImage | None, ticket: Ticket) -> Run:
        run = self._desk.settle(row, prepared, ticket)
        with self._changed:  # before anything is read or drawn for it
            self._queue.check(run.lane_calls_left, run.weight, run.key)
        return run

    def _check_open(self) -> None:
        if self._closed is not None:
            raise ReplicaLost(self._closed.message)

    def _wait_for(self, name: str, run: Run) -> None:
        """The run goes on once the adapter has been read; it is read once for all that wait."""
        with self._changed:
            self._check_open()
            waiting = self._unread.setdefault(name, [])
            waiting.append(run)
            if len(waiting) > 1:
                return
            reading = self._reader.submit(self._shelf.read, name)
        reading.add_done_callback(lambda done: self._thread.submit(self._have_read, name, done))

    def _have_read(self, name: str, reading: Future[LoadedAdapter | FailedFile]) -> None:
        if reading.cancelled():
            return  # as by `close`, which has answered all that waited
        read = reading.result()
        self._shelf.keep(read)
        with self._changed:
            runs = self._unread.pop(name, [])
        # Whoever waited for this is answered by it: a file that is being written changes all along.
        self._go_on(runs, read if isinstance(read, FailedFile) else None)

    def _go_on(self, runs: list[Run], failed: FailedFile | None = None) -> None:
        for run in runs:
            self._settle(run.row, run.prepared, run.ticket, run, failed)

    def _enqueue(self, run: Run) -> None:
        with self._changed:
            self._queue.push(run)
            del self.arriving[run.ticket]
            self._arrived = True
            position = self._queue.position(run, run.submitted_s)
            run.eta_s = self._queue.eta_s(run, self._running_lane_calls(), run.submitted_s)
        notify(run, progress_of(run, "waiting", eta_s=run.eta_s, queue_position=position))
