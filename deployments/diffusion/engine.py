"""The step engine: any mix of rows in one running batch.

Before every step it admits waiting rows, runs one forward for all rows of a key, and lets the
finished leave. It knows neither Ray nor HTTP. `submit` may be called from any thread; `step` and
everything below it belongs to the one thread that owns the device.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import replace

from deployments.diffusion.adapters.shelf import AdapterShelf
from deployments.diffusion.adapters.switch import Switch
from deployments.diffusion.answers import Answers
from deployments.diffusion.batch import Batch, Layout, Member
from deployments.diffusion.capacity import Capacity, CapacityCurve
from deployments.diffusion.codec_pool import CodecPool
from deployments.diffusion.compiled import graphs_compiled
from deployments.diffusion.desk import Desk
from deployments.diffusion.drain import longest_row_s
from deployments.diffusion.encoder import Encoder
from deployments.diffusion.families.family import Family, Size
from deployments.diffusion.faults import failure
from deployments.diffusion.finish import Finisher
from deployments.diffusion.isolation import Fault, Outcome, isolate
from deployments.diffusion.newcomers import Newcomers
from deployments.diffusion.observations import Observations
from deployments.diffusion.order import decodes_due
from deployments.diffusion.pending import Pending
from deployments.diffusion.phases import Phases
from deployments.diffusion.progress import Reporter
from deployments.diffusion.queue import StepQueue
from deployments.diffusion.reception import Reception
from deployments.diffusion.report import WorkReport
from deployments.diffusion.run import BatchKey, Run, Ticket, Watcher, answer
from deployments.diffusion.running import Running
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.stats import EngineStats
from deployments.errors import ReplicaLost
from deployments.logs import about
from deployments.metrics import QUEUE_WAIT
from deployments.requests import ImageResult, ModelCard, PreparedImage, Row

logger = logging.getLogger(__name__)

ANY_NUMBER = 2**31


class Engine:
    """One loaded model and its rows."""

    def __init__(
        self,
        family: Family,
        settings: DiffusionSettings,
        *,
        layout: Layout,
        curve: CapacityCurve,
        unit: Size,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`curve` is what steps, encoding and decoding were measured to cost at the size `unit`."""
        self._layout, self._curve, self._clock = layout, curve, clock
        # Every join and leave would swap the denoiser for an encoder and back.
        self._in_waves = settings.offload == "model"
        self._changed = threading.Condition()
        self._capacity = Capacity(
            curve,
            margin=settings.knee_margin,
            max_lanes=settings.max_lanes,
            lanes_of_row=family.lanes_of_row,
            alike=_alike,
        )
        self._queue: StepQueue[Run] = StepQueue(
            self._capacity,
            max_queue_s=settings.max_queue_s,
            ageing_steps=settings.ageing_steps,
            switch_calls=self._switch_calls,
        )
        self._switch = Switch(family.slots, clock)
        self._shelf = AdapterShelf(
            family, settings.adapters, max_loaded=settings.max_adapters_loaded
        )
        # A compiled step knows the length of text it was warmed with: one chunk.
        max_chunks = family.max_chunks if settings.compile_mode is None else 1
        self._reception = Reception(
            Desk(family, unit, max_chunks=max_chunks, shelf=self._shelf),
            self._shelf,
            self._queue,
            self._changed,
            self._running_lane_calls,
        )
        self._pending = Pending(
            family,
            unit,
            capacity=self._capacity,
            queue=self._queue,
            reception=self._reception,
            shelf=self._shelf,
        )
        self.observations = Observations()
        """What rows and steps took; for whoever publishes it to drain."""
        self._answers = Answers()
        self._phases = Phases(clock)
        self._encoder = Encoder(family, strict=settings.strict)
        self._newcomers = Newcomers(self._encoder)
        self._running = Running(layout)
        self._codecs = CodecPool(settings.codec_threads)
        self._finisher = Finisher(
            family, self._codecs, clock, self.observations, strict=settings.strict
        )
        self._reporter = Reporter(family, self._codecs)
        self._stats = EngineStats()
        self._graphs_when_warm = graphs_compiled()
        self._held_back: str | None = None
        self._step_begun_s: float | None = None

    # Any thread

    def submit(
        self,
        row: Row,
        prepared: PreparedImage | None = None,
        *,
        deadline_s: float | None = None,
        watcher: Watcher | None = None,
    ) -> Future[ImageResult]:
        """The picture to come. Cancelling the future frees the row's lanes at the next step.

        `deadline_s` is in seconds from now. The future raises UnsupportedScheduler, AdapterFailed,
        Requeue, GenerationFailed, EngineFailed or ReplicaLost.
        """
        future: Future[ImageResult] = Future()
        future.add_done_callback(self._answers.heard)
        now_s = self._clock()
        due_s = None if deadline_s is None else now_s + deadline_s
        self._reception.receive(row, prepared, Ticket(future, now_s, due_s, watcher))
        return future

    def stats(self) -> EngineStats:
        """A copy of the counters."""
        with self._changed:
            return replace(
                self._stats,
                held_back=self._stats.held_back.copy(),
                answers=self._answers.counts(),
                phases=self._phases.seconds(),
                prompt_hits=self._encoder.hits,
                prompt_misses=self._encoder.misses,
                requeued=self._reception.requeued,
                adapter_switches=self._switch.switches,
                adapter_reads=self._shelf.reads,
                previews=self._reporter.previews,
                codec_waits=self._codecs.waits,
                compiles=self._graphs_when_warm,
                recompiles=graphs_compiled() - self._graphs_when_warm,
                waiting=len(self._reception.arriving) + len(self._queue),
                arriving=len(self._reception.arriving),
                running=len(self._occupying()),
                pending_s=self._queue.pending_s(),
                capacity_lanes=self._capacity.lanes,
                step_age_s=self.step_age_s(),
            )

    def longest_row_s(self, card: ModelCard) -> float:
        """Seconds of the longest row that the card allows, by what a step was measured to cost."""
        return longest_row_s(card, self._capacity)

    def work_report(self, at: float) -> WorkReport:
        """For those who send rows here or elsewhere; `at` is now, in Unix seconds."""
        with self._changed:
            return self._pending.report(at, self._occupying())

    def step_age_s(self) -> float:
        """Seconds since the step in flight began; 0 between steps."""
        begun_s = self._step_begun_s
        return 0.0 if begun_s is None else self._clock() - begun_s

    def wake(self) -> None:
        """Makes `wait_for_work` return."""
        with self._changed:
            self._changed.notify_all()

    # The engine's thread

    def step(self) -> bool:
        """Admit, encode newcomers, one step, decode the finished. False when there is no row."""
        self._step_begun_s = self._clock()
        self._phases.enter("admit")
        self._drop_gone()
        self._admit()
        self._phases.enter("encode")
        self._encode()
        self._phases.enter("choose")
        batch = self._next_batch()
        if batch is not None and self._put_on_adapters(batch):
            self._phases.enter("model")
            self._advance(batch)
            self._phases.enter("report")
            self._reporter.stepped(batch, self._eta_s)
            self._finisher.add(batch.leave(lambda run: run.calls_left == 0 and not run.gone))
        self._phases.enter("decode")
        self._decode()
        self._step_begun_s = None
        return batch is not None or bool(self._newcomers.runs or self._finisher.members)

    def wait_for_work(self, stopped: Callable[[], bool]) -> None:
        """Sleeps until a row arrives or `stopped`."""
        self._phases.enter("idle")
        with self._changed:
            self._changed.wait_for(lambda: len(self._queue) > 0 or stopped())

    def close(self, why: str = "the replica is shutting down; ask again") -> None:
        """Answers every row that is not done with ReplicaLost, and later ones at once."""
        error = ReplicaLost(why)
        self._reception.close(error)
        with self._changed:
            runs = [*self._queue.take_all(), *self._occupying()]
            runs += [member.run for member in self._finisher.members]
            self._running.clear()
        for run in runs:
            answer(run.ticket.future, error)
        self._codecs.close()

    # Below: in the order of a row's way

    def _drop_gone(self) -> None:
        with self._changed:
            gone = self._queue.drop_gone()
        gone += [member.run for member in self._running.leave(lambda run: run.gone)]
        between = [*self._newcomers.runs, *(member.run for member in self._finisher.members)]
        gone += [run for run in between if run.gone]
        if not gone:
            return
        self._newcomers.drop(gone)
        self._finisher.drop(gone)
        cancelled = [run for run in gone if run.ticket.future.cancelled()]
        for run in cancelled:
            logger.info(
                "row %s cancelled after %d calls", run.row.id, run.call, extra=about(run.row)
            )
        self._count(cancelled=len(cancelled))

    def _admit(self) -> None:
        """Who waits may start; when somebody has arrived, in the place of who runs.

        A row that is put back keeps its tensors and goes on later, so this costs no work. Without
        it p99 of short rows at 80 % load is more than twice as long (simulated). In waves nobody
        joins until all that run are done.
        """
        if self._in_waves and self._occupying():
            return
        now_s = self._clock()
        with self._changed:
            self._running.drop_empty()
            put_back = self._running.runs if self._reception.somebody_arrived() else []
            self._queue.return_to_queue(put_back)
            beside = [run for run in self._occupying() if run not in put_back]
            admission = self._queue.admit(beside, now_s=now_s)
            if admission.held_back is not None:
                self._stats.held_back[admission.held_back] += 1
        if admission.held_back not in (None, self._held_back):
            logger.info("%d rows wait: %s", len(self._queue), admission.held_back)
        self._held_back = admission.held_back
        self._park([run for run in put_back if run not in admission.entries])
        for run in admission.entries:
            if not run.started_s:
                run.started_s = now_s
                self.observations.add(QUEUE_WAIT, now_s - run.submitted_s)
        self._newcomers.add([run for run in admission.entries if run not in put_back])

    def _park(self, runs: Sequence[Run]) -> None:
        """These leave their batches and keep their tensors; the queue has them again."""
        if not runs:
            return
        self._newcomers.park(self._running.leave(runs.__contains__))
        self._count(parked=len(runs))

    def _encode(self) -> None:
        members, outcome = self._newcomers.encode(
            images=self._affordable(self._curve.encode_image_s),
            text_sets=1 if self._running.runs else ANY_NUMBER,
        )
        self._fail(outcome)
        self._running.join(members)

    def _next_batch(self) -> Batch | None:
        key = self._queue.next_key(self._running.by_key(), self._clock())
        return None if key is None else self._running.batch(key)

    def _put_on_adapters(self, batch: Batch) -> bool:
        """What the batch's key asks for acts from now on; False if it cannot, and its rows fail."""
        outcome = self._switch.put_on(batch.members[0].run.adapters)
        runs = [member.run for member in batch.members]
        for fault in outcome.faults:
            self._fail(Outcome([Fault(run, fault.error, fault.trace) for run in runs]))
        return not outcome.faults

    def _switch_calls(self, key: Hashable) -> float:
        """What changing to the key's adapters would cost now, in model calls of a full batch."""
        assert isinstance(key, BatchKey)
        cost_s = self._switch.cost_s(key.adapters)
        return cost_s / self._capacity.full_step_s(key) if cost_s else 0.0

    def _advance(self, batch: Batch) -> None:
        rows, lanes, load = len(batch.members), batch.lanes, batch.load
        begun_s = self._clock()
        stepped = isolate(batch.members, lambda members: batch.part(members).step())
        self.observations.add_step(batch, lanes, begun_s, self._clock())
        outcome = stepped.told_of(lambda member: member.run)
        if outcome.splits or outcome.faults:
            batch.restack()
            self._fail(outcome)
        else:
            with self._changed:
                self._capacity.observe(batch.key, load, self._clock() - begun_s)
        if outcome.splits and outcome.out_of_memory:
            self._make_room(batch)
        done_s = load * self._capacity.lane_call_s(batch.key)
        self._count(steps=1, row_steps=rows, lane_steps=lanes, done_s=done_s)
        self._count(padding_steps=self._layout.padded(lanes) - lanes)
        self._stats.max_rows = max(self._stats.max_rows, rows)

    def _make_room(self, batch: Batch) -> None:
        """Memory ran out. Rows beyond what it allows wait again, and later go on as they are."""
        with self._changed:
            self._capacity.lower(batch.key, batch.weight)
            limit = self._capacity.limit(batch.key)
        going_on = [member for member in batch.members if member.run.calls_left]
        weight = sum(member.run.weight for member in going_on)
        parked: list[Member] = []
        for member in sorted(going_on, key=lambda member: -member.run.calls_left):
            if weight > limit and len(parked) + 1 < len(going_on):
                weight -= member.run.weight
                parked.append(member)
        with self._changed:
            self._queue.return_to_queue([member.run for member in parked])
        self._park([member.run for member in parked])
        logger.warning(
            "out of memory: %s now runs at most %g lanes; %d rows wait again",
            batch.key, limit, len(parked),
        )  # fmt: skip

    def _decode(self) -> None:
        """All of the finished, or those whose turn it is and that the next step can wait for."""
        left = self._affordable(self._curve.decode_s)
        while left > 0 and (due := self._decodes_due()):
            decoded, outcome = self._finisher.decode(due, left)
            self._fail(outcome)
            self._count(finished=decoded - len(outcome.faults))
            left -= decoded

    def _decodes_due(self) -> list[Run]:
        finished = [member.run for member in self._finisher.members]
        if not finished or (self._in_waves and self._running.runs):  # as after most steps
            return []
        return decodes_due(finished, self._running.runs, self._queue.ageing_per_s)

    def _affordable(self, each_s: float) -> int:
        """How many pieces of work take no longer than one step; any number while nothing runs."""
        step_s = self._running.shortest_step_s(self._capacity)
        return ANY_NUMBER if step_s is None else max(1, int(step_s / each_s))

    def _fail(self, outcome: Outcome[Run]) -> None:
        """Answers the rows that fail alone; a batch drops them before its next step."""
        for fault in outcome.faults:
            row = fault.item.row
            logger.error("row %s failed\n%s", row.id, fault.trace, extra=about(row))
            answer(fault.item.ticket.future, failure(row, fault.error))
        for_memory = outcome.splits if outcome.out_of_memory else 0
        self._count(failed=len(outcome.faults), splits=outcome.splits, memory_splits=for_memory)

    def _running_lane_calls(self) -> float:
        return sum(run.lane_calls_left for run in self._occupying())

    def _occupying(self) -> list[Run]:
        return [*self._running.runs, *self._newcomers.runs]

    def _eta_s(self, run: Run) -> float:
        """Seconds until the picture of a running row, if its batch stays as it is."""
        batch = self._running.batch(run.key)
        return run.calls_left * self._capacity.step_s(run.key, batch.load) + self._curve.decode_s

    def _count(self, **increments: float) -> None:
        with self._changed:
            for name, increment in increments.items():
                setattr(self._stats, name, getattr(self._stats, name) + increment)


def _alike(key: Hashable) -> Hashable:
    """What memory and time depend on."""
    assert isinstance(key, BatchKey)
    return key.at_any_scale()
