"""Jobs written down: a file for each, in a folder or any fsspec location.

A ledger that takes over finds there what the one before it knew. A request is a pure function of
its rows, so a job that was not over is simply run again. Knows no Ray.
"""

import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import fsspec
import msgspec

from deployments import errors
from deployments.errors import StepwiseError
from deployments.jobs.record import Job
from deployments.requests import GenerationRequest, ImageResult, JobState

logger = logging.getLogger(__name__)

_SUFFIX = ".job"


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file holds, as MessagePack."""

    owner: str
    id: str
    request: GenerationRequest
    previews: int
    created: float
    ended: float | None
    state: JobState
    results: list[ImageResult]
    error: tuple[str, str] | None
    """Its class and its message."""


class Journal:
    """Writes one after the other, on a thread of its own."""

    def __init__(self, url: str) -> None:
        """Raises whatever the location does that cannot be reached: that stops the start."""
        self._files, self._root = fsspec.core.url_to_fs(url)
        self._files.makedirs(self._root, exist_ok=True)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")

    def write(self, job: Job) -> Future[None]:
        """The job as it is now, whole or not at all."""
        return self._thread.submit(
            self._write, _path(*job.key), msgspec.msgpack.encode(_entry(job))
        )

    def strike(self, job: Job) -> None:
        """Nobody asks for it any more. Returns at once; a failure is logged."""
        self._thread.submit(self._strike, _path(*job.key))

    def find(self, owner: str, job_id: str) -> Future[Job | None]:
        """The job as it was last written, and was not struck; None if there is none."""
        return self._thread.submit(self._find, f"{self._root}/{_path(owner, job_id)}")

    def read(self) -> Iterator[Job]:
        """Every job, in the order of their start. Blocks."""
        self._files.invalidate_cache(self._root)
        names = [name for name in self._names() if name.endswith(_SUFFIX)]
        entries = [entry for name in names if (entry := self._read(name)) is not None]
        for entry in sorted(entries, key=lambda entry: entry.created):
            yield _job(entry)

    def _find(self, name: str) -> Job | None:
        entry = self._read(name)
        return None if entry is None else _job(entry)

    def _names(self) -> list[str]:
        try:
            names: list[str] = self._files.ls(self._root, detail=False)
        except FileNotFoundError:  # an object store knows no empty folders
            return []
        return names

    def _read(self, name: str) -> _Entry | None:
        try:
            return msgspec.msgpack.decode(self._files.cat_file(name), type=_Entry)
        except FileNotFoundError:  # the ledger before this one has struck it meanwhile
            return None
        except msgspec.DecodeError as error:
            logger.error("job file %s cannot be read and is left out: %s", name, error)
            return None

    def _write(self, path: str, content: bytes) -> None:
        unfinished = f"{self._root}/{path}.tmp"
        self._files.pipe_file(unfinished, content)
        self._files.mv(unfinished, f"{self._root}/{path}")

    def _strike(self, path: str) -> None:
        try:
            self._files.rm_file(f"{self._root}/{path}")
        except FileNotFoundError:  # another ledger was quicker
            return
        except Exception:
            logger.exception("job file %s cannot be deleted", path)


def _path(owner: str, job_id: str) -> str:
    """A caller may have chosen any id, so it is no name for a file."""
    return hashlib.sha256(f"{owner}\n{job_id}".encode()).hexdigest() + _SUFFIX


def _entry(job: Job) -> _Entry:
    error = None if job.error is None else (type(job.error).__name__, job.error.message)
    return _Entry(
        job.owner, job.id, job.request, job.previews, job.created, job.ended, job.state,
        [*job.results.values()], error,
    )  # fmt: skip


def _job(entry: _Entry) -> Job:
    """One that is not over begins anew."""
    job = Job(entry.owner, entry.id, entry.request, entry.previews, entry.created)
    if entry.ended is not None:
        job.state, job.ended = entry.state, entry.ended
        job.results = {result.row_id: result for result in entry.results}
        job.error = entry.error and _error(*entry.error)
    return job


def _error(kind: str, message: str) -> StepwiseError:
    known: type[StepwiseError] = getattr(errors, kind)
    return known(message)
