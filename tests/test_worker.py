"""The engine on its own thread, loaded from a folder as a replica loads it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deployments.diffusion.deployment import Diffusion
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.worker import EngineWorker
from deployments.errors import ReplicaLost
from deployments.requests import ImageResult, Progress
from tests.rows import make_row


def settings(folder: Path, **changes: object) -> DiffusionSettings:
    fields = {"id": "tiny", "source": str(folder), "device": "cpu", "threads": 1, **changes}
    fields |= {"cache_folder": str(folder.parent / "cache")}
    return DiffusionSettings(**fields)  # type: ignore[arg-type]


def test_it_loads_warms_up_and_answers(tiny_folder: Path) -> None:
    with EngineWorker(settings(tiny_folder)) as worker:
        card = worker.card
        assert (card.default_width, card.min_side, card.max_side) == (64, 32, 128)
        assert (card.size_multiple, card.latent_factor) == (8, 8)
        assert card.default_scheduler == "DDIMScheduler"
        futures = [worker.engine.submit(make_row(seed=seed)) for seed in range(4)]
        assert [future.result(timeout=60).seed for future in futures] == [0, 1, 2, 3]
        worker.check()
    with pytest.raises(RuntimeError, match="thread has died"):
        worker.check()


def test_a_dead_thread_answers_everyone_and_says_so(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with EngineWorker(settings(tiny_folder)) as worker:

        def illegal(*arguments: object) -> torch.Tensor:
            raise torch.AcceleratorError("an illegal memory access")

        layout = replace(worker.engine._layout, denoise=illegal)
        monkeypatch.setattr(worker.engine._running, "_layout", layout)
        lost = worker.engine.submit(make_row())
        assert isinstance(lost.exception(timeout=60), ReplicaLost)
        worker._thread.join(timeout=60)
        late = worker.engine.submit(make_row())
        assert isinstance(late.exception(timeout=60), ReplicaLost)
        with pytest.raises(RuntimeError, match="thread has died"):
            worker.check()
    assert "the engine's thread died" in caplog.text


def test_a_step_that_hangs_is_unhealthy(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EngineWorker(settings(tiny_folder, stalled_after_s=5)) as worker:
        monkeypatch.setattr(worker.engine, "step_age_s", lambda: 6.0)
        with pytest.raises(RuntimeError, match="a step has taken 6 s; stalled_after_s is 5"):
            worker.check()


def test_a_row_in_flight_is_answered_when_the_worker_closes(tiny_folder: Path) -> None:
    with EngineWorker(settings(tiny_folder)) as worker:
        future = worker.engine.submit(make_row(num_inference_steps=150))
    assert future.done()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"default_scheduler": "EulerScheduler"}, "default_scheduler is 'EulerScheduler'"),
        pytest.param(
            {"device": "cuda"},
            "sees no GPU; give the replica a GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here"),
        ),
    ],
)
def test_what_cannot_start_says_why(
    tiny_folder: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        EngineWorker(settings(tiny_folder, **changes))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        EngineWorker(settings(tmp_path / "nowhere"))


@pytest.mark.usefixtures("handlers_stay")
def test_the_deployment_streams_progress_and_then_the_picture(tiny_folder: Path) -> None:
    async def collect() -> list[Progress | ImageResult]:
        deployment = Diffusion(settings(tiny_folder))
        stream = deployment.generate_with_progress(make_row(seed=4), preview_every=2)
        return [told async for told in stream]

    told = asyncio.run(collect())
    assert isinstance(told[-1], ImageResult)
    assert told[-1].seed == 4
    progress = [part for part in told[:-1] if isinstance(part, Progress)]
    assert len(progress) == len(told) - 1
    assert {part.call for part in progress} == set(range(7))
    assert sorted(part.call for part in progress if part.preview) == [2, 4]


@pytest.mark.usefixtures("handlers_stay")
def test_whoever_stops_listening_gets_no_picture(tiny_folder: Path) -> None:
    async def leave() -> Diffusion:
        deployment = Diffusion(settings(tiny_folder))
        stream = deployment.generate_with_progress(make_row(num_inference_steps=150))
        await anext(stream)
        await stream.aclose()
        return deployment

    deployment = asyncio.run(leave())
    engine = deployment._worker.engine
    works = engine.submit(make_row(num_inference_steps=1))
    works.result(timeout=60)
    deployment._worker.close()  # a picture is there a moment before it is counted
    stats = engine.stats()
    assert (stats.cancelled, stats.finished) == (1, 1)
