"""The ledger: jobs are run once, told to whoever asks, and forgotten in time."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import pytest

from deployments.errors import GenerationFailed, Requeue, TooManyRows, UnknownJob
from deployments.ingress.automatic1111.runs import run
from deployments.jobs.journal import Journal
from deployments.jobs.ledger import Ledger
from deployments.jobs.quotas import Quotas
from deployments.jobs.settings import JobsSettings
from deployments.requests import GenerationRequest, ImageResult, JobView, Progress
from tests.rows import make_result, make_row


def request(rows: int = 1) -> GenerationRequest:
    return GenerationRequest(rows=tuple(make_row(seed=seed) for seed in range(rows)))


def progress(row_id: str, call: int, *, waits: bool = False) -> Progress:
    return Progress(
        row_id=row_id,
        state="waiting" if waits else "running",
        call=call,
        calls=6,
        queue_position=2 if waits else 0,
        eta_s=6.0 - call,
        preview=b"jpeg" if call == 3 else None,
    )


@dataclass
class Models:
    """What runs the jobs here: it tells what a test puts in, and nothing else."""

    says: "asyncio.Queue[Progress | ImageResult | Exception]" = field(default_factory=asyncio.Queue)
    started: int = 0
    closed: int = 0
    patience_s: float = 0.0

    async def watch(
        self, request: GenerationRequest, *, previews: int, patience_s: float
    ) -> AsyncGenerator[Progress | ImageResult]:
        self.started += 1
        self.patience_s = patience_s
        try:
            for _ in request.rows:
                item: Any = None
                while not isinstance(item, ImageResult):
                    item = await self.says.get()
                    if isinstance(item, Exception):
                        raise item
                    yield item
        finally:
            self.closed += 1


KEPT: list[Ledger] = []
"""Of the running test: its tasks end with it, also where it drops the ledger before."""


@pytest.fixture(autouse=True)
def _ledgers_stay() -> Iterator[None]:
    yield
    KEPT.clear()


def ledger(models: Models, **settings: Any) -> Ledger:
    clock, quotas = settings.pop("clock", lambda: 1000.0), settings.pop("quotas", None)
    KEPT.append(Ledger(models.watch, JobsSettings(**settings), clock=clock, quotas=quotas))
    return KEPT[-1]


def running(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def wrapped() -> None:
        asyncio.run(asyncio.wait_for(test(), 30))

    wrapped.__name__ = test.__name__
    return wrapped


async def until(jobs: Ledger, state: str, job_id: str = "a") -> JobView:
    async for view in jobs.events("ann", job_id):
        if view.state == state:
            return view
    raise AssertionError(f"the job ended and was never {state}")


@running
async def test_a_job_is_told_step_by_step_and_keeps_its_pictures() -> None:
    models = Models()
    jobs = ledger(models)
    first = await jobs.start("ann", "a", request(2), previews=1)
    assert (first.state, first.images, first.images_done, first.calls) == ("waiting", 2, 0, 0)
    assert [view.id for view in await jobs.running("ann")] == ["a"]
    for told in (
        progress("row-0", 0, waits=True),
        progress("row-0", 3),
        make_result("row-0"),
        make_result("row-1"),
    ):
        models.says.put_nowait(told)
    views = [view async for view in jobs.events("ann", "a")]
    assert [view.state for view in views][-1] == "succeeded"
    last = views[-1]
    assert (last.images_done, last.call, last.calls, last.eta_s) == (2, 12, 12, 0.0)
    assert last.preview == b"jpeg"
    assert [each.row_id for each in await jobs.results("ann", "a")] == ["row-0", "row-1"]
    assert await jobs.running("ann") == []


@running
async def test_while_its_rows_wait_a_job_waits() -> None:
    models = Models()
    jobs = ledger(models)
    await jobs.start("ann", "a", request(), previews=0)
    models.says.put_nowait(progress("row-0", 0, waits=True))
    async for view in jobs.events("ann", "a"):
        if view.calls:
            break
    assert (view.state, view.queue_position, view.eta_s) == ("waiting", 2, 6.0)
    models.says.put_nowait(progress("row-0", 1))
    assert (await until(jobs, "running")).queue_position == 0
    await jobs.cancel("ann", "a")


@running
async def test_the_same_id_runs_once() -> None:
    models = Models()
    jobs = ledger(models)
    await jobs.start("ann", "a", request(), previews=0)
    await jobs.start("ann", "a", request(3), previews=0)
    await jobs.start("bob", "a", request(), previews=0)
    for _ in range(2):
        models.says.put_nowait(make_result("row-0"))
    assert (await until(jobs, "succeeded")).images == 1
    assert models.started == 2, "once for each caller"


@running
async def test_a_job_is_its_caller_s_alone() -> None:
    jobs = ledger(Models())
    await jobs.start("ann", "a", request(), previews=0)
    for asks in (jobs.get, jobs.results, jobs.cancel):
        with pytest.raises(UnknownJob, match="'a' is not known"):
            await asks("bob", "a")
    assert await jobs.running("bob") == []
    await jobs.cancel("ann", "a")


@running
async def test_cancelling_closes_the_watch_and_keeps_what_is_done() -> None:
    models = Models()
    jobs = ledger(models)
    await jobs.start("ann", "a", request(2), previews=0)
    models.says.put_nowait(make_result("row-0"))
    await until(jobs, "running")
    assert (await jobs.cancel("ann", "a")).state == "cancelled"
    assert models.closed == 1
    assert len(await jobs.results("ann", "a")) == 1
    assert (await jobs.cancel("ann", "a")).state == "cancelled", "again changes nothing"


@running
async def test_a_failure_is_kept_for_whoever_asks() -> None:
    models = Models()
    jobs = ledger(models)
    await jobs.start("ann", "a", request(), previews=0)
    models.says.put_nowait(GenerationFailed("not numbers"))
    view = await until(jobs, "failed")
    assert str(view.error) == "not numbers"
    await jobs.start("ann", "b", request(), previews=0)
    models.says.put_nowait(ZeroDivisionError("ours"))
    view = await until(jobs, "failed", "b")
    assert "ours" not in str(view.error), "what nobody expected is logged, not told"


@running
async def test_what_is_kept_is_bounded() -> None:
    models, now = Models(), [1000.0]
    jobs = ledger(models, max_jobs=2, keep_s=60, max_kept_mb=0.001, clock=lambda: now[0])
    await jobs.start("ann", "a", request(), previews=0)
    await jobs.start("ann", "b", request(), previews=0)
    with pytest.raises(Requeue, match="2 jobs wait or run"):
        await jobs.start("ann", "c", request(), previews=0)
    models.says.put_nowait(make_result("row-0", bytes(700)))
    await until(jobs, "succeeded")
    await jobs.start("ann", "c", request(), previews=0)
    with pytest.raises(UnknownJob):
        await jobs.get("ann", "a")
    watched = [asyncio.create_task(until(jobs, "succeeded", job_id)) for job_id in "bc"]
    for _ in watched:
        models.says.put_nowait(make_result("row-0", bytes(700)))
    await asyncio.gather(*watched)
    with pytest.raises(UnknownJob):
        await jobs.get("ann", "b")
    assert (await jobs.get("ann", "c")).state == "succeeded"
    now[0] += 61
    with pytest.raises(UnknownJob, match="over for more than 60 s"):
        await jobs.get("ann", "c")


@running
async def test_what_ended_first_is_forgotten_first() -> None:
    released = asyncio.Event()

    async def watch(
        request: GenerationRequest, *, previews: int, patience_s: float
    ) -> AsyncGenerator[Progress | ImageResult]:
        if len(request.rows) == 2:
            await released.wait()
        yield make_result("row-0", bytes(700))

    times = iter(range(1000, 2000))
    jobs = Ledger(watch, JobsSettings(max_kept_mb=0.001), clock=lambda: float(next(times)))
    await jobs.start("ann", "long", request(2), previews=0)
    await jobs.start("ann", "short", request(), previews=0)
    await until(jobs, "succeeded", "short")
    released.set()
    await until(jobs, "succeeded", "long")
    with pytest.raises(UnknownJob):
        await jobs.get("ann", "short")
    assert (await jobs.get("ann", "long")).state == "succeeded"


@running
async def test_input_files_are_let_go_at_the_end_and_bounded_before() -> None:
    models = Models()
    jobs = ledger(models, max_input_mb=0.001, patience_s=7)
    with_image = replace(request(), image=bytes(900), mask=bytes(90))
    await jobs.start("ann", "a", with_image, previews=0)
    with pytest.raises(Requeue, match="input images of 0 MB would wait or run"):
        await jobs.start("ann", "b", with_image, previews=0)
    await jobs.start("ann", "c", request(), previews=0)
    await jobs.cancel("ann", "a")
    assert jobs._jobs["ann", "a"].input_bytes == 0
    await jobs.start("ann", "b", with_image, previews=0)
    for job_id in "bc":
        await jobs.cancel("ann", job_id)
    assert models.patience_s == 7


@running
async def test_results_that_nobody_asks_for_again_are_forgotten() -> None:
    models = Models()
    jobs = ledger(models)
    await jobs.start("ann", "a", request(), previews=0)
    models.says.put_nowait(make_result("row-0"))
    await until(jobs, "succeeded")
    assert len(await jobs.results("ann", "a", forget=True)) == 1
    with pytest.raises(UnknownJob):
        await jobs.get("ann", "a")


@running
async def test_results_of_a_job_that_runs_end_it_for_nobody() -> None:
    models = Models()
    jobs = ledger(models)
    await jobs.start("ann", "a", request(), previews=0)
    assert await jobs.results("ann", "a", forget=True) == []
    models.says.put_nowait(make_result("row-0"))
    assert (await until(jobs, "succeeded")).images_done == 1


@running
async def test_rows_are_counted_by_caller_whoever_owns_the_job() -> None:
    models, caller = Models(), "ann"
    jobs = ledger(models, quotas=Quotas(max_rows_in_flight=1))
    for job_id in ("a", "b"):
        await jobs.start("sdapi/ann", job_id, replace(request(), caller=caller), previews=0)
        with pytest.raises(TooManyRows):
            await jobs.take_lease(caller, "an HTTP request", 1)
        models.says.put_nowait(make_result("row-0"))
        async for _ in jobs.events("sdapi/ann", job_id):
            pass


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"max_jobs": 0}, "max_jobs is 0"), ({"keep_s": float("nan")}, "keep_s is nan")],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        JobsSettings(**wrong)


def told(models: Models, request: GenerationRequest) -> None:
    for row in request.rows:
        models.says.put_nowait(make_result(row.id))


async def ended(ledger: Ledger, job_id: str) -> JobView:
    *_, last = [view async for view in ledger.events("me", job_id)]
    return last


async def all_written(ledger: Ledger) -> None:
    """The journal writes one after the other."""
    await ledger.start("me", "last", request(), previews=0)
    await ledger.cancel("me", "last")


MINE = replace(request(2), caller="me", image=b"an image")


def test_a_job_that_was_not_over_is_run_by_the_next_ledger(tmp_path: Path) -> None:
    async def first() -> None:
        models = Models()
        await ledger(models, journal=str(tmp_path)).start("me", "a", MINE, previews=3)
        models.says.put_nowait(progress(MINE.rows[0].id, 2))
        models.says.put_nowait(make_result(MINE.rows[0].id))

    async def second() -> None:
        models = Models()
        following = ledger(models, journal=str(tmp_path))
        assert (await following.start("me", "a", MINE, previews=3)).state == "waiting"
        told(models, MINE)
        assert (await ended(following, "a")).state == "succeeded"
        assert models.started == 1
        await all_written(following)

    async def third() -> None:
        models = Models()
        following = ledger(models, journal=str(tmp_path))
        results = await following.results("me", "a")
        assert results == [make_result(row.id) for row in MINE.rows]
        assert models.started == 0
        with pytest.raises(UnknownJob):
            await following.get("somebody else", "a")

    for life in (first, second, third):
        asyncio.run(asyncio.wait_for(life(), 30))


def test_the_next_ledger_knows_how_jobs_ended(tmp_path: Path) -> None:
    async def first() -> None:
        models = Models()
        jobs = ledger(models, journal=str(tmp_path))
        await jobs.start("me", "cancelled", MINE, previews=0)
        await jobs.cancel("me", "cancelled")
        await jobs.start("me", "failed", MINE, previews=0)
        models.says.put_nowait(GenerationFailed("not numbers"))
        await ended(jobs, "failed")
        await jobs.start("me", "fetched", MINE, previews=0)
        told(models, MINE)
        await ended(jobs, "fetched")
        await jobs.results("me", "fetched", forget=True)
        await all_written(jobs)

    async def second() -> None:
        jobs = ledger(Models(), journal=str(tmp_path))
        assert (await jobs.get("me", "cancelled")).state == "cancelled"
        failed = await jobs.get("me", "failed")
        assert (failed.state, type(failed.error)) == ("failed", GenerationFailed)
        assert failed.error is not None
        assert failed.error.message == "not numbers"
        with pytest.raises(UnknownJob):
            await jobs.get("me", "fetched")

    for life in (first, second):
        asyncio.run(asyncio.wait_for(life(), 30))


def test_a_damaged_job_file_costs_that_job_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def take() -> None:
        await ledger(Models(), journal=str(tmp_path)).start("me", "whole", MINE, previews=0)

    async def take_over() -> None:
        jobs = ledger(Models(), journal=str(tmp_path))
        assert [view.id for view in await jobs.running("me")] == ["whole"]

    asyncio.run(take())
    (tmp_path / "damaged.job").write_bytes(b"\x93no")
    asyncio.run(take_over())
    assert "damaged.job cannot be read" in caplog.text


def test_a_journal_that_takes_nothing_ends_no_job(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def life() -> None:
        models = Models()
        jobs = ledger(models, journal=str(tmp_path / "journal"))
        (tmp_path / "journal").rmdir()
        (tmp_path / "journal").write_text("no folder")
        await jobs.start("me", "a", MINE, previews=0)
        told(models, MINE)
        assert (await ended(jobs, "a")).state == "succeeded"

    asyncio.run(asyncio.wait_for(life(), 30))
    assert "job a cannot be written to the journal" in caplog.text


@running
async def test_a_job_belongs_to_its_owner_after_a_handover_too() -> None:
    with TemporaryDirectory() as folder:
        await ledger(Models(), journal=folder).start("sdapi/me", "a", MINE, previews=0)
        following = ledger(Models(), journal=folder)
        assert [view.id for view in await following.running("sdapi/me")] == ["a"]
        with pytest.raises(UnknownJob):
            await following.get("me", "a")


@running
async def test_a_job_that_came_while_the_next_ledger_started_is_known_to_it() -> None:
    with TemporaryDirectory() as folder:
        models = Models()
        old, following = ledger(Models(), journal=folder), ledger(models, journal=folder)
        await old.start("me", "a", MINE, previews=0)
        told(models, MINE)
        assert (await ended(following, "a")).state == "succeeded"
        await following.results("me", "a", forget=True)
        with pytest.raises(UnknownJob):
            await following.get("me", "a")


def test_whoever_asks_again_waits_until_the_job_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time its client left while other jobs were being written."""
    may_write, write, unknown = Event(), Journal._write, Future[None]()
    unknown.set_result(None)

    def slowly(journal: Journal, path: str, content: bytes) -> None:
        assert may_write.wait(30)
        write(journal, path, content)

    monkeypatch.setattr(Journal, "_write", slowly)
    monkeypatch.setattr(Journal, "find", lambda *asked: unknown)

    async def life() -> None:
        jobs = ledger(Models(), journal=str(tmp_path))
        other, leaves = (
            asyncio.create_task(jobs.start("me", job_id, MINE, previews=0)) for job_id in "ab"
        )
        while len(jobs._jobs) < 2:
            await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.wait([leaves])
        again = asyncio.create_task(jobs.start("me", "b", MINE, previews=0))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not again.done()
        may_write.set()
        await asyncio.gather(again, other)
        assert {job.id for job in Journal(str(tmp_path)).read()} == {"a", "b"}

    asyncio.run(asyncio.wait_for(life(), 30))


@running
async def test_a_store_without_empty_folders_holds_no_jobs() -> None:
    with TemporaryDirectory() as folder:
        journal = Journal(f"{folder}/jobs")
        (Path(folder) / "jobs").rmdir()
        assert [*journal.read()] == []


class Handover:
    """The ledger that answers is another one once the events of the first are told."""

    def __init__(self, old: Ledger, following: Ledger) -> None:
        self._asked, self._following = old, following

    def __getattr__(self, method: str) -> Any:
        return getattr(self._asked, method)

    async def events(self, owner: str, job_id: str) -> AsyncGenerator[JobView]:
        async for view in self._asked.events(owner, job_id):
            yield view
        self._asked = self._following


@running
async def test_a_picture_is_fetched_from_the_ledger_that_took_over() -> None:
    with TemporaryDirectory() as folder:
        first, second = Models(), Models()
        old = ledger(first, journal=folder)
        await old.start("sdapi/me", "a", MINE, previews=0)
        following = ledger(second, journal=folder)
        told(first, MINE)
        told(second, MINE)
        jobs: Any = Handover(old, following)
        state, results = await run(jobs, "sdapi/me", "a", MINE)
        assert (state, [each.row_id for each in results]) == (
            "succeeded", [row.id for row in MINE.rows],
        )  # fmt: skip
        assert second.started == 1
        with pytest.raises(UnknownJob):
            await following.get("sdapi/me", "a")
