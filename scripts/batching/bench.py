"""Runs: each is measured on the rig, or found in the work file."""

from __future__ import annotations

import time
from collections.abc import Sequence

from deployments.diffusion.compiled import graphs_compiled

from .curves import Curves
from .load import Outcome, closed_loop, open_loop
from .records import Record, Run, figures, seconds
from .rig import Rig
from .trace import MEAN_LANE_STEPS, STEPS, Job, mean_lane_steps, mixed_trace, plain_trace
from .workfile import WorkFile

IN_FLIGHT_BATCHES = 4
"""Full batches of jobs in a closed loop: one for each number of steps, so that all can fill."""
CUT_OFF_BATCHES = 16
"""Full batches of jobs in a system that does not keep up, when it is cut off."""
TRACE_JOBS = 1000
"""Traces are made so long and then cut, so that a short one begins like a long one."""


class Bench:
    """The measurements of one set of settings."""

    def __init__(self, rig: Rig, done: WorkFile[Run]) -> None:
        self._rig, self._done = rig, done
        self.records: dict[Run, Record] = {}
        """In the order of the plan, those of the work file included."""

    def curves(self) -> Curves:
        """What the model's parts cost."""
        run = Run(kind="curves")
        if run not in self._done:
            self._done.put(run, self._rig.curves())
        return self._done.get(run, Curves)

    def loop_per_s(self, rounds: int) -> float:
        """Images per second of pipeline calls back to back, two lanes, no PNG."""
        run = Run(kind="loop", jobs=rounds * len(STEPS))
        if run not in self._done:
            jobs = plain_trace(0, TRACE_JOBS, self._rig.form)
            chosen = [next(job for job in jobs if job.row.num_inference_steps == s) for s in STEPS]
            begun_s = time.perf_counter()
            for job in chosen * rounds:
                self._rig.bare(job)
            self._done.put(run, run.jobs / (time.perf_counter() - begun_s))
        return self._done.get(run, float)

    def record(self, run: Run) -> Record:
        """What a run of a system gives."""
        if run not in self._done:
            record = self._measured(run)
            self._done.put(run, record)
            _say(run, record)
        self.records[run] = self._done.get(run, Record)
        return self.records[run]

    def mixed_work(self, seed: int) -> float:
        """The denoiser's work for a mean job of the mixed trace, in jobs of the plain one."""
        return mean_lane_steps(mixed_trace(seed, TRACE_JOBS, self._rig.form)) / MEAN_LANE_STEPS

    def _measured(self, run: Run) -> Record:
        system, clock = self._rig.system(run.system), self._rig.clock
        jobs = self._jobs(run)
        graphs, before = graphs_compiled(), system.work()
        clock.reset()
        self._rig.telling.reset()
        outcome = self._looped(run, jobs)
        model_s, telling_s, after = clock.model_s(), self._rig.telling.model_s(), system.work()
        wrong = [self._rig.is_wrong(job, content) for job, content in outcome.pictures]
        return Record(
            wall_s=outcome.wall_s,
            occupied_s=outcome.occupied_s,
            model_s=model_s,
            forwards=after.forwards - before.forwards,
            lanes=after.lanes - before.lanes,
            latencies=outcome.latencies,
            finished=outcome.finished,
            failed=outcome.failed,
            cut_off=outcome.cut_off,
            checked=len(wrong),
            wrong=sum(wrong),
            recompiles=graphs_compiled() - graphs,
            telling_s=telling_s,
        )

    def _looped(self, run: Run, jobs: Sequence[Job]) -> Outcome:
        system, rows = self._rig.system(run.system), self._rig.most_rows
        if run.kind in ("saturation", "previews"):
            return closed_loop(system, jobs, in_flight=IN_FLIGHT_BATCHES * rows)
        return open_loop(system, jobs, run.per_s, most_waiting=CUT_OFF_BATCHES * rows)

    def _jobs(self, run: Run) -> Sequence[Job]:
        make = mixed_trace if run.kind == "mixed" else plain_trace
        return make(run.seed, max(run.jobs, TRACE_JOBS), self._rig.form)[: run.jobs]


def _say(run: Run, record: Record) -> None:
    found = figures(record)
    print(
        f"{run.kind} {run.load:g}, seed {run.seed}, {run.system}: "
        f"{record.finished} of {run.jobs} images, {found['images_per_s']:.3g} images/s, "
        f"p99 {seconds(found['p99_s'])}, of 8 steps {seconds(found['short_p99_s'])}"
        + (", CUT OFF" if record.cut_off else ""),
        flush=True,
    )
