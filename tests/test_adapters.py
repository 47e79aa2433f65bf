"""Adapters in the engine: each picture is that of a plain pipeline with the adapter loaded."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from deployments.diffusion.adapters.files import read_adapter
from deployments.diffusion.adapters.shelf import AdapterShelf
from deployments.diffusion.batch import Member
from deployments.diffusion.compiled import graphs_compiled
from deployments.diffusion.engine import Engine
from deployments.diffusion.families.family import Family
from deployments.diffusion.loading import load_engine
from deployments.diffusion.settings import Adapter, DiffusionSettings
from deployments.errors import AdapterFailed
from deployments.requests import AdapterUse, Row
from tests.adapters import save, save_kohya, save_kohya_flux, taken
from tests.driving import drive, driven, pixels, wait_until_waiting
from tests.rows import make_row
from tests.test_families import by_pipeline
from tests.tiny_families import MAKERS
from tests.tiny_model import open_model

pytestmark = [
    # PEFT's, of what these tests do on purpose: several at once, patterns of one part for all.
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning"),
    pytest.mark.filterwarnings("ignore:The following .*_pattern keys:RuntimeWarning"),
]

TOLERANCE = 1e-4
NAMES = ("stable-diffusion", "xl", "sd3", "flux")

Wanted = tuple[AdapterUse, ...]
INK, OIL = AdapterUse("ink", 1.0), AdapterUse("oil", 0.7)
WISHES: tuple[Wanted, ...] = (
    (),
    (INK,),
    (OIL,),
    (AdapterUse("ink", -0.4),),
    (INK, OIL),
    (),
    (AdapterUse("late", 0.9),),
)


class Studio:
    """A tiny model, and three adapters of it: of the denoiser, of all, of the text alone."""

    def __init__(self, name: str, folder: Path) -> None:
        MAKERS[name](folder)
        self.folder = folder
        self.family = open_model(folder)
        self.files = {
            "ink": save(folder / "ink.safetensors", self.family, seed=1),
            "oil": save(folder / "oil.safetensors", self.family, seed=2, rank=2, text=True),
            "late": save(
                folder / "late.safetensors", self.family, seed=3, denoiser=False, text=True
            ),
        }

    @property
    def sources(self) -> tuple[Adapter, ...]:
        return tuple(Adapter(name=name, source=str(path)) for name, path in self.files.items())

    def plain(self, uses: Wanted) -> Family:
        """The model as diffusers has it, with these adapters loaded."""
        family = open_model(self.folder)
        for use in uses:
            family.pipeline.load_lora_weights(self.files[use.name], adapter_name=use.name)
        if uses:
            family.pipeline.set_adapters([use.name for use in uses], [use.scale for use in uses])
        return family


@pytest.fixture(scope="module")
def studios(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Studio]:
    return {name: Studio(name, tmp_path_factory.mktemp(name)) for name in NAMES}


@pytest.fixture(scope="module")
def studio(studios: dict[str, Studio]) -> Studio:
    return studios["stable-diffusion"]


def scheduler_of(family: Family) -> str:
    return "DDIM" if "unet" in family.slots.denoiser_parts else "Euler"


def latents_of(engine: Engine, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """The final latents of rows that run together, by their ids."""
    found: dict[str, torch.Tensor] = {}
    decode: Any = engine._finisher._decode

    def record(members: Sequence[Member]) -> None:
        found.update({member.run.row.id: member.state[0].clone() for member in members})
        decode(members)

    engine._finisher._decode = record  # type: ignore[method-assign]
    futures = [engine.submit(row) for row in rows]
    wait_until_waiting(engine, len(rows))
    drive(engine, futures)
    for future in futures:
        future.result()
    engine._finisher._decode = decode  # type: ignore[method-assign]
    return found


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("name", NAMES)
def test_interleaved_requests_have_the_pictures_of_plain_pipelines(
    studios: dict[str, Studio], name: str
) -> None:
    studio = studios[name]
    rows = [
        make_row(
            id=f"row-{number}",
            adapters=uses,
            scheduler=scheduler_of(studio.family),
            seed=number // 2,
        )
        for number, uses in enumerate(WISHES)
    ]
    with driven(studio.family, adapters=studio.sources) as engine:
        ours = latents_of(engine, rows)
        stats = engine.stats()
    assert stats.finished == len(rows)
    assert 4 <= stats.adapter_switches < stats.steps
    for row in rows:
        theirs = by_pipeline(studio.plain(row.adapters), row, None)
        assert apart(ours[row.id], theirs) <= TOLERANCE, row.adapters
        if row.adapters:  # the test could not fail if adapters did nothing
            assert apart(by_pipeline(studio.plain(()), row, None), theirs) > 20 * TOLERANCE


def test_rows_of_one_set_share_a_batch_and_others_do_not(studio: Studio) -> None:
    uses: list[Wanted] = [(INK,), (INK,), (AdapterUse("ink", 0.5),), (), (AdapterUse("late", 1.0),)]
    rows = [make_row(id=f"row-{i}", seed=i, adapters=each) for i, each in enumerate(uses)]
    with driven(studio.family, adapters=studio.sources) as engine:
        latents_of(engine, rows)
        stats = engine.stats()
    # A change of text encoders alone asks nothing of the denoiser: the last two share as well.
    assert (stats.row_steps, stats.steps) == (5 * 6, 3 * 6)


def test_prompts_are_encoded_once_for_each_set_that_reads_them(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, counts = studio.family.encode_prompts, list[int]()

    def counting(chunks: Any) -> Any:
        counts.append(len(chunks))
        return encode(chunks)

    monkeypatch.setattr(studio.family, "encode_prompts", counting)
    with driven(studio.family, adapters=studio.sources) as engine:
        for uses in ((), (INK,), (OIL,), (INK, OIL), (OIL,), (AdapterUse("oil", 0.3),), ()):
            latents_of(engine, [make_row(adapters=uses)])
    # Prompt and negative prompt: by the model itself, by oil at 0.7 and at 0.3.
    assert counts == [2, 2, 2]


def deltas_by_diffusers(family: Family, path: Path) -> dict[tuple[str, str], torch.Tensor]:
    """What diffusers and PEFT add to every weight, by part and layer."""
    from peft.tuners.lora import LoraLayer

    family.pipeline.load_lora_weights(path, adapter_name="it")
    layers: dict[tuple[str, str], Any] = {
        (part, name): module
        for part, model in family.slots.parts.items()
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
    return {key: layer.get_delta_weight("it") for key, layer in layers.items()}


def deltas_by_us(family: Family, path: Path) -> dict[tuple[str, str], torch.Tensor]:
    loaded = read_adapter(Adapter(name="it", source=str(path)), family)
    return {
        (part, layer): delta.factor
        * (delta.up.flatten(1) @ delta.down.flatten(1)).view(len(delta.up), *delta.down.shape[1:])
        for part, layers in loaded.parts.items()
        for layer, delta in layers.items()
    }


PATTERNS: dict[str, Any] = {"lora_alpha": 3, "alpha_pattern": {"ff.net.2": 1, "fc1": 5}}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "config",
    [
        {"text": True},
        {"text": True, "metadata": True, "lora_alpha": 7},
        {"text": True, "metadata": True, "use_rslora": True, **PATTERNS},
        {"text": True, "rank_pattern": {"to_q": 2}},
    ],
    ids=["plain", "alpha", "patterns", "ranks"],
)
def test_diffusers_files_are_read_as_diffusers_reads_them(
    studios: dict[str, Studio], tmp_path: Path, name: str, config: dict[str, Any]
) -> None:
    family = studios[name].family
    same_deltas(studios[name], save(tmp_path / "it.safetensors", family, seed=4, **config))


@pytest.mark.parametrize("name", ["stable-diffusion", "xl"])
def test_kohya_s_files_are_read_as_diffusers_reads_them(
    studios: dict[str, Studio], tmp_path: Path, name: str
) -> None:
    studio = studios[name]
    same_deltas(studio, save_kohya(tmp_path / "it.safetensors", studio.family, seed=5))


def test_kohya_s_flux_files_are_read_as_diffusers_reads_them(
    studios: dict[str, Studio], tmp_path: Path
) -> None:
    studio = studios["flux"]
    same_deltas(studio, save_kohya_flux(tmp_path / "it.safetensors", studio.family, seed=6))


def same_deltas(studio: Studio, path: Path) -> None:
    ours = deltas_by_us(studio.family, path)
    theirs = deltas_by_diffusers(studio.plain(()), path)
    assert ours.keys() == theirs.keys()
    assert {part for part, _ in ours} >= {"text_encoder", *studio.family.slots.denoiser_parts}
    for key, delta in theirs.items():
        assert torch.allclose(ours[key], delta, rtol=1e-5, atol=1e-7), key


def test_each_layer_of_a_kohya_file_has_its_own_alpha(studio: Studio, tmp_path: Path) -> None:
    """diffusers gives attention layers the alpha that most others have."""
    path = save_kohya(
        tmp_path / "it.safetensors", studio.family, seed=5, alphas=(1.0, 2.0, 8.0), text=False
    )
    file, ours = load_file(path), deltas_by_us(studio.family, path)
    assert len(ours) == len(file) / 3
    for (_, layer), delta in ours.items():
        name = f"lora_unet_{layer.replace('.', '_')}"
        down, up = file[f"{name}.lora_down.weight"], file[f"{name}.lora_up.weight"]
        expected = file[f"{name}.alpha"] / len(down) * up.flatten(1) @ down.flatten(1)
        assert torch.allclose(delta.flatten(1), expected, rtol=1e-5, atol=1e-7), layer


def test_a_folder_is_its_usual_or_its_only_file(studio: Studio, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, names in ((one, ("any",)), (two, ("other", "pytorch_lora_weights"))):
        folder.mkdir()
        for name in names:
            save(folder / f"{name}.safetensors", studio.family, seed=len(name))
        assert read_adapter(Adapter(name="x", source=str(folder)), studio.family).parts
    save(one / "another.safetensors", studio.family, seed=1)
    with pytest.raises(AdapterFailed, match="several files, and must name one"):
        read_adapter(Adapter(name="x", source=str(one)), studio.family)


def damaged(studio: Studio, kind: str, path: Path) -> None:
    """Writes a file that cannot be used."""
    state = load_file(studio.files["ink"])
    some = next(iter(state))
    match kind:
        case "cut":
            path.write_bytes(studio.files["ink"].read_bytes()[:-1000])
        case "no safetensors":
            path.write_bytes(b"PK\3\4 and so on")
        case "empty":
            save_file({}, path)
        case "half":
            save_file({key: value for key, value in state.items() if key != some}, path)
        case "other sizes":
            save_file({key: value.repeat(1, 2, *[1] * (value.ndim - 2)) for key, value in
                       state.items()}, path)  # fmt: skip
        case "other layers":
            save_file({key.replace("to_q", "to_r"): value for key, value in state.items()}, path)
        case "other parts":
            save_file({key.replace("unet", "decoder"): value for key, value in state.items()}, path)
        case "a DoRA":
            save_file({**state, "unet.x.lora_magnitude_vector": torch.ones(4)}, path)
        case "whole weights":
            save_file({**state, "unet.conv_in.weight": torch.ones(4)}, path)


DAMAGES = {
    "missing": "its file is missing",
    "cut": "its file cannot be read",
    "no safetensors": "its file cannot be read",
    "empty": "has no weights",
    "half": "has one of the two weights of",
    "other sizes": "is of another model: .* here has weights of",
    "other layers": "is of another model: this one has no .*to_r",
    "other parts": "has 'decoder.*the model's parts are",
    "a DoRA": "it is no plain LoRA",
    "whole weights": "'conv_in.weight', which is no weight of a LoRA",
}


@pytest.mark.parametrize(("kind", "says"), DAMAGES.items())
def test_a_broken_file_fails_its_rows_alone_until_it_is_mended(
    studio: Studio, tmp_path: Path, kind: str, says: str
) -> None:
    path = tmp_path / "secret" / "bad.safetensors"
    path.parent.mkdir()
    damaged(studio, kind, path)
    bad = Adapter(name="bad", source=str(path))
    with driven(studio.family, adapters=(*studio.sources, bad)) as engine:
        running = engine.submit(make_row(seed=1, adapters=(INK,)))
        wait_until_waiting(engine, 1)
        engine.step()
        broken = engine.submit(make_row(seed=2, adapters=(AdapterUse("bad", 1.0), INK)))
        with pytest.raises(AdapterFailed, match=f"lora 'bad' cannot be used: .*{says}") as caught:
            broken.result(timeout=60)
        assert "secret" not in caught.value.message
        drive(engine, [running])
        assert running.result().seed == 1
        path.write_bytes(studio.files["oil"].read_bytes())
        mended = engine.submit(make_row(seed=3, adapters=(AdapterUse("bad", 1.0),)))
        drive(engine, [mended])
        assert mended.result().seed == 3
        assert engine.stats().failed == 0


def test_what_cannot_be_put_on_fails_its_rows_and_the_others_go_on(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    wear = studio.family.slots.wear

    def full(adapters: Any) -> bool:
        if adapters.uses == (INK,):
            raise torch.OutOfMemoryError("no memory for an adapter")
        return wear(adapters)

    monkeypatch.setattr(studio.family.slots, "wear", full)
    with driven(studio.family, adapters=studio.sources) as engine:
        futures = [engine.submit(make_row(seed=i, adapters=(INK,) * (i % 2))) for i in range(4)]
        wait_until_waiting(engine, 4)
        drive(engine, futures)
        assert engine.stats().failed == 2
    for seed, future in enumerate(futures):
        if seed % 2:
            with pytest.raises(Exception, match="needs more memory than is free"):
                future.result()
        else:
            assert future.result().seed == seed


def test_the_shelf_keeps_the_last_used(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def reading(adapter: Adapter, family: Family) -> Any:
        read.append(adapter.name)
        return read_adapter(adapter, family)

    monkeypatch.setattr("deployments.diffusion.adapters.shelf.read_adapter", reading)
    shelf = AdapterShelf(studio.family, studio.sources, max_loaded=2)
    for uses in ((INK,), (OIL,), (INK, OIL), (AdapterUse("late", 1.0),), (OIL,), (INK,)):
        found = taken(shelf, uses)
        assert [each.name for each in found.loaded] == [use.name for use in uses]
    assert read == ["ink", "oil", "late", "ink"]
    with pytest.raises(AdapterFailed, match="'other' is not one of this model's"):
        shelf.find("other")


def tensors_alive() -> int:
    gc.collect()
    # By its type: some objects of torch warn when they are asked for their class.
    return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())


@pytest.mark.parametrize("reserved", [False, True], ids=["eager", "with room"])
def test_a_hundred_switches_leave_nothing_behind(
    studio: Studio, tmp_path: Path, reserved: bool
) -> None:
    family = open_model(studio.folder)
    plain = open_model(studio.folder)
    shelf = AdapterShelf(family, studio.sources, max_loaded=3)
    sets = [taken(shelf, uses) for uses in ((INK,), (OIL,), (), (INK, OIL))]
    if reserved:
        ranks = [each.deltas("unet") for each in sets]
        room = {layer: sum(d.rank for d in ranks[3][layer]) for layer in ranks[3]}
        family.slots.reserve(room)
    latents, times = torch.randn(2, 4, 8, 8), torch.tensor([1.0, 500.0])
    told = {"encoder_hidden_states": torch.randn(2, 16, 32)}
    first, alive = list[torch.Tensor](), 0
    addresses = [buffer.data_ptr() for buffer in family.denoiser.buffers()]
    for number in range(100):
        assert family.slots.wear(sets[number % 4])
        with torch.inference_mode():
            output = family.denoise(latents, times, told)
        if number < 4:
            first.append(output)
        else:
            assert torch.equal(output, first[number % 4])
        if number == 8:
            alive = tensors_alive()
    family.slots.wear(sets[0])
    assert tensors_alive() == alive
    if reserved:
        assert [buffer.data_ptr() for buffer in family.denoiser.buffers()] == addresses
    with torch.inference_mode():
        assert torch.equal(first[2], plain.denoise(latents, times, told)), "nothing is on"


def test_what_the_compiled_step_has_no_room_for_is_refused(studio: Studio) -> None:
    family = open_model(studio.folder)
    shelf = AdapterShelf(family, studio.sources, max_loaded=3)
    layers = taken(shelf, [INK]).deltas("unet")
    family.slots.reserve({layer: deltas[0].rank for layer, deltas in layers.items()})
    family.slots.check(taken(shelf, [INK]))
    family.slots.check(taken(shelf, [OIL]))
    with pytest.raises(AdapterFailed, match=r"needs rank 6 in .* has room for 4"):
        family.slots.check(taken(shelf, [INK, OIL]))


class Clock:
    """Time passes where the test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_two_sets_at_work_are_not_switched_at_every_step(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, family = Clock(), studio.family
    wear, denoise = family.slots.wear, family.denoise

    def slow_wear(adapters: Any) -> bool:
        changed = wear(adapters)
        clock.now_s += 0.05 if changed else 0.0
        return changed

    def timed(*arguments: Any) -> torch.Tensor:
        clock.now_s += 0.01
        return denoise(*arguments)

    monkeypatch.setattr(family.slots, "wear", slow_wear)
    monkeypatch.setattr(family, "denoise", timed)
    with driven(family, clock=clock, adapters=studio.sources, lane_buckets=(2, 4)) as engine:
        uses: list[Wanted] = [(INK,), ()]
        futures = [
            engine.submit(make_row(seed=i, adapters=each, num_inference_steps=60))
            for i, each in enumerate(uses)
        ]
        wait_until_waiting(engine, 2)
        drive(engine, futures)
        stats = engine.stats()
    assert stats.steps == 120
    # A switch costs five steps. At most as much time goes into them as into steps, once the engine
    # knows what both take.
    assert 4 <= stats.adapter_switches <= 120 / 5 + 2


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["whole", "regional"])
@pytest.mark.usefixtures("fresh_compiler")
def test_a_hundred_switches_of_a_compiled_step_compile_nothing(
    studio: Studio, tmp_path: Path, scope: str
) -> None:
    broken = Adapter(name="broken", source=str(tmp_path / "none.safetensors"))
    settings: dict[str, Any] = {"id": "tiny", "source": str(studio.folder), "device": "cpu"}
    settings |= {"compile": "default", "compile_scope": scope, "lane_buckets": (2, 4)}
    settings |= {"cache_folder": str(tmp_path), "max_queue_s": 1e9}
    settings |= {"adapters": (*studio.sources, broken)}
    rows = [make_row(id=f"row-{i}", seed=i, adapters=uses) for i, uses in enumerate(WISHES)]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        engine, card = load_engine(DiffusionSettings(**settings))
        stack.callback(engine.close)
        assert [use.name for use in card.adapters] == ["ink", "oil", "late", "broken"]
        ours = latents_of(engine, rows)
        graphs, alive = graphs_compiled(), tensors_alive()
        while engine.stats().adapter_switches < 100:
            for uses in ((INK,), (OIL,), (INK, OIL), ()):
                latents_of(engine, [make_row(adapters=uses, num_inference_steps=2)])
        latents_of(engine, [rows[-1]])
        assert graphs_compiled() == graphs
        assert engine.stats().recompiles == 0
        # What Python still holds of the last rows; fewer is no leak, as the compiler lets go too.
        assert tensors_alive() - alive <= 20
    with driven(studio.family, adapters=studio.sources) as eager:
        expected = latents_of(eager, rows)
    for row in rows:
        assert apart(ours[row.id], expected[row.id]) <= TOLERANCE, row.adapters


def test_what_was_on_is_off_again_to_the_bit(studio: Studio) -> None:
    with driven(studio.family, adapters=studio.sources) as engine:
        futures = [engine.submit(make_row(adapters=uses)) for uses in ((), (INK,))]
        drive(engine, futures)
        plain, inked = (pixels(future.result()) for future in futures)
        again = engine.submit(make_row())
        drive(engine, [again])
    assert np.array_equal(plain, pixels(again.result()))
    assert np.abs(plain - inked).max() > 1


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        ([{"name": "a<b", "source": "x"}], "name is 'a<b'"),
        ([{"name": "", "source": "x"}], "name is ''"),
        ([{"name": "a", "source": "x", "default_scale": 11}], "default_scale is 11"),
        ([{"name": "a", "source": "x", "default_scale": float("nan")}], "default_scale is nan"),
        ([{"name": "Ink", "source": "x"}, {"name": "ink", "source": "y"}], "two of name 'ink'"),
    ],
)
def test_adapters_that_cannot_be_are_refused(adapters: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiffusionSettings(id="x", source="x", adapters=tuple(Adapter(**each) for each in adapters))
