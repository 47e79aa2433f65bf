"""Adapters on their way to a row: files read beside the desk, text encoders, a lack of memory."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from deployments.diffusion.adapters.files import read_adapter
from deployments.diffusion.adapters.room import prepare_adapters
from deployments.diffusion.adapters.shelf import AdapterShelf
from deployments.diffusion.families.family import Family
from deployments.diffusion.run import BatchKey
from deployments.diffusion.settings import Adapter, DiffusionSettings
from deployments.errors import (
    AdapterFailed,
    EngineFailed,
    ReplicaLost,
    Requeue,
    UnsupportedScheduler,
)
from deployments.requests import AdapterUse
from tests.adapters import save, taken
from tests.driving import drive, driven, wait_until_waiting
from tests.rows import make_row
from tests.tiny_families import MAKERS
from tests.tiny_model import open_model

INK, OIL = AdapterUse("ink", 1.0), AdapterUse("oil", 0.7)
READ = "deployments.diffusion.adapters.shelf.read_adapter"


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp("model")
    MAKERS["stable-diffusion"](folder)
    return open_model(folder)


@pytest.fixture(scope="module")
def sources(family: Family, tmp_path_factory: pytest.TempPathFactory) -> tuple[Adapter, ...]:
    """Ink changes the denoiser, oil the text encoder too."""
    folder = tmp_path_factory.mktemp("adapters")
    files = {
        "ink": save(folder / "ink.safetensors", family, seed=1),
        "oil": save(folder / "oil.safetensors", family, seed=2, text=True),
    }
    return tuple(Adapter(name=name, source=str(path)) for name, path in files.items())


class Reader:
    """Reads as the shelf does, but no further than it is let."""

    def __init__(self) -> None:
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self.read: list[str] = []

    def __call__(self, adapter: Adapter, family: Family) -> Any:
        self.read.append(adapter.name)
        self.begun.set()
        assert self.may_go_on.wait(timeout=60)
        return read_adapter(adapter, family)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    reader = Reader()
    monkeypatch.setattr(READ, reader)
    yield reader
    reader.may_go_on.set()


def test_rows_pass_one_whose_file_is_being_read(
    family: Family, sources: tuple[Adapter, ...], reader: Reader
) -> None:
    with driven(family, adapters=sources) as engine:
        try:
            inked = [engine.submit(make_row(seed=i, adapters=(INK, OIL))) for i in (1, 2)]
            assert reader.begun.wait(timeout=60)
            plain = engine.submit(make_row(seed=3))
            wait_until_waiting(engine, 1)
            drive(engine, [plain])
            assert plain.result().seed == 3
            assert reader.read == ["ink"]
            assert engine.stats().waiting == 2
        finally:
            reader.may_go_on.set()
        drive(engine, inked)
        assert [future.result().seed for future in inked] == [1, 2]
    assert reader.read == ["ink", "oil"], "once for both rows"


def test_closing_waits_for_one_file_at_most(
    family: Family, sources: tuple[Adapter, ...], reader: Reader
) -> None:
    many = tuple(Adapter(name=f"ink {i}", source=sources[0].source) for i in range(5))
    with driven(family, adapters=many) as engine:
        rows = [make_row(seed=i, adapters=(AdapterUse(each.name, 1.0),)) for i, each in
                enumerate(many)]  # fmt: skip
        futures = [engine.submit(row) for row in rows]
        assert reader.begun.wait(timeout=60)
        closing = threading.Thread(target=engine.close)
        closing.start()
        try:
            for future in futures:
                with pytest.raises(ReplicaLost, match="shutting down"):
                    future.result(timeout=60)
        finally:
            reader.may_go_on.set()
        closing.join(timeout=60)
        assert not closing.is_alive()
        assert reader.read == ["ink 0"]
        assert engine.stats().waiting == 0


def test_what_is_refused_anyway_has_no_file_read(
    family: Family, sources: tuple[Adapter, ...], reader: Reader
) -> None:
    with driven(family, adapters=sources, lane_buckets=(2,), max_queue_s=0.001) as engine:
        try:
            lcm = {"scheduler": "LCM", "num_inference_steps": 60}  # of at most 50
            unable = engine.submit(make_row(seed=1, adapters=(INK,), **lcm))
            first = engine.submit(make_row(seed=2))
            second = engine.submit(make_row(seed=3, adapters=(INK,)))
            with pytest.raises(UnsupportedScheduler):
                unable.result(timeout=60)
            with pytest.raises(Requeue):
                second.result(timeout=60)
        finally:
            reader.may_go_on.set()
        drive(engine, [first])
    assert not reader.read


def test_a_file_that_failed_is_read_again_once_it_has_changed(
    family: Family, sources: tuple[Adapter, ...], reader: Reader, tmp_path: Path
) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"no safetensors")
    shelf = AdapterShelf(family, (Adapter(name="ink", source=str(path)),))
    reader.may_go_on.set()
    for _ in range(3):
        with pytest.raises(AdapterFailed, match="'ink' cannot be used: its file cannot be read"):
            taken(shelf, [INK])
    assert reader.read == ["ink"]
    path.write_bytes(Path(sources[0].source).read_bytes())
    assert taken(shelf, [INK]).uses == (INK,)
    assert reader.read == ["ink", "ink"]


def test_a_file_that_is_being_written_is_not_read_for_ever(
    family: Family, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, read = tmp_path / "half.safetensors", 0
    path.touch()

    def reading(adapter: Adapter, family: Family) -> Any:
        nonlocal read
        read += 1
        path.write_bytes(b"x" * read)
        if read > 1:
            return read_adapter(adapter, family)
        raise AdapterFailed("not all of it is there")

    monkeypatch.setattr(READ, reading)
    with driven(family, adapters=(Adapter(name="ink", source=str(path)),)) as engine:
        with pytest.raises(AdapterFailed, match="not all of it"):
            engine.submit(make_row(adapters=(INK,))).result(timeout=60)
        assert read == 1
        with pytest.raises(AdapterFailed, match="cannot be read"):
            engine.submit(make_row(adapters=(INK,))).result(timeout=60)
        assert read == 2


def test_what_left_the_shelf_is_found_while_a_row_has_it(
    family: Family, sources: tuple[Adapter, ...], reader: Reader
) -> None:
    reader.may_go_on.set()
    shelf = AdapterShelf(family, sources, max_loaded=1)
    held = taken(shelf, [INK])
    taken(shelf, [OIL])
    assert taken(shelf, [INK]).loaded[0] is held.loaded[0]
    assert reader.read == ["ink", "oil"]
    del held
    taken(shelf, [OIL])
    taken(shelf, [INK])
    assert reader.read == ["ink", "oil", "oil", "ink"], "nobody had them"


def test_without_memory_for_a_switch_all_is_taken_off_first(
    family: Family, sources: tuple[Adapter, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    slots, lacks = family.slots, 0
    wear = slots.wear

    def tight(adapters: Any) -> bool:
        nonlocal lacks
        if adapters.uses == (INK,) and not slots.wears(()):
            assert not slots.wears((INK,)), "it would be on already"
            lacks += 1
            raise torch.OutOfMemoryError("no memory for two")
        return wear(adapters)

    monkeypatch.setattr(slots, "wear", tight)
    with driven(family, adapters=sources) as engine:
        oiled = engine.submit(make_row(seed=1, adapters=(OIL,)))
        wait_until_waiting(engine, 1)
        engine.step()
        inked = engine.submit(make_row(seed=2, adapters=(INK,), num_inference_steps=1))
        wait_until_waiting(engine, 1)
        drive(engine, [oiled, inked])
        assert [oiled.result().seed, inked.result().seed] == [1, 2]
        assert engine.stats().failed == 0
    assert lacks == 1


def test_an_adapter_without_memory_fails_its_rows_in_words_of_its_own(
    family: Family, sources: tuple[Adapter, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(adapters: Any) -> bool:
        raise torch.OutOfMemoryError("no memory for an adapter")

    monkeypatch.setattr(family.slots, "wear", full)
    with driven(family, adapters=sources) as engine:
        futures = [engine.submit(make_row(seed=i, adapters=(INK, OIL))) for i in range(2)]
        wait_until_waiting(engine, 2)
        drive(engine, futures)
        assert engine.stats().failed == 2
    for future in futures:
        with pytest.raises(EngineFailed, match=r"'ink' and 'oil' needs more .* or use fewer"):
            future.result()


def test_while_rows_run_one_text_set_is_put_on_at_a_step(
    family: Family, sources: tuple[Adapter, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    wear_text, changes = family.slots.wear_text, 0

    def counting(adapters: Any) -> bool:
        nonlocal changes
        changed = wear_text(adapters)
        changes += changed
        return changed

    monkeypatch.setattr(family.slots, "wear_text", counting)
    with driven(family, adapters=sources) as engine:
        running = engine.submit(make_row(seed=1, num_inference_steps=20))
        wait_until_waiting(engine, 1)
        engine.step()
        scales = (0.1, 0.2, 0.2, 0.3)
        oiled = [
            engine.submit(make_row(seed=i, adapters=(AdapterUse("oil", scale),)))
            for i, scale in enumerate(scales)
        ]
        wait_until_waiting(engine, len(scales))
        joined = []
        for _ in range(3):
            before = changes
            engine.step()
            assert changes == before + 1
            joined.append(len(engine._newcomers.runs))
        assert joined == [3, 1, 0]
        drive(engine, [running, *oiled])
        assert engine.stats().finished == 5


def test_what_memory_allows_is_known_for_any_scale(
    family: Family, sources: tuple[Adapter, ...]
) -> None:
    def key(scale: float) -> BatchKey:
        return BatchKey(8, 8, 1, (AdapterUse("ink", scale),))

    with driven(family, adapters=sources) as engine:
        engine._capacity.lower(key(0.5), 8)
        limits = [engine._capacity.limit(each) for each in (key(0.5), key(0.7), BatchKey(8, 8, 1))]
    assert limits == [4, 4, 16]


def test_what_cannot_be_used_is_logged_once_at_the_start(
    family: Family, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = Adapter(name="ink", source=str(tmp_path / "none.safetensors"))
    prepare_adapters(family, DiffusionSettings(id="tiny", source="tiny", adapters=(missing,)))
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"name": "ink ", "source": "x"}, "name is 'ink '.*the last no blank"),
        ({"name": "ink", "source": ""}, "source is empty: name a .safetensors file"),
    ],
)
def test_adapters_that_cannot_be_are_refused(adapter: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Adapter(**adapter)


def test_one_request_may_not_need_more_than_is_kept() -> None:
    with pytest.raises(ValueError, match=r"max_adapters_loaded is 8: .* \(9\); keep as many"):
        DiffusionSettings(id="x", source="x", max_adapters=9)
