"""An engine that takes a GPU's time and computes nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deployments.diffusion.families import paced
from deployments.diffusion.families.paced import Paced, read_pace
from deployments.diffusion.loading import load_engine, load_family
from deployments.diffusion.settings import DiffusionSettings
from tests.driving import drive, driven, pixels
from tests.rows import make_prepared, make_row

PACES = sorted((Path(__file__).parent.parent / "configs" / "paces").glob("*.json"))


def row(**changes: Any) -> Any:
    return make_row(width=512, height=512, scheduler="Euler", **changes)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the engine waited for; nobody really waits."""
    waits: list[float] = []
    monkeypatch.setattr("deployments.diffusion.families.paced.time.sleep", waits.append)
    return waits


@pytest.mark.parametrize("path", PACES, ids=lambda path: path.stem)
def test_every_pace_file_says_where_it_is_from(path: Path) -> None:
    pace = read_pace(path)
    assert pace.origin.startswith(("computed, not measured", "measured"))
    assert pace.native_side % paced.LATENT_FACTOR == 0


def test_steps_take_what_the_file_says(slept: list[float]) -> None:
    family = Paced(read_pace(PACES[0]))
    pace = family.pace
    with driven(family) as engine:
        future = engine.submit(row(num_inference_steps=6))
        drive(engine, [future])
        picture = pixels(future.result())
    assert picture.shape == (512, 512, 3)
    guided = pace.curve.step_at(2)
    assert slept == [2 * pace.prompt_s, *[guided] * 6, pace.curve.decode_s]


def test_a_picture_is_its_seeds_own_and_says_what_it_is(slept: list[float]) -> None:
    with driven(Paced(read_pace(PACES[0]))) as engine:
        futures = [engine.submit(row(seed=seed, id=f"{i}")) for i, seed in enumerate((1, 2, 1))]
        drive(engine, futures)
        first, second, again = (pixels(future.result()) for future in futures)
    assert (first == again).all()
    assert np.abs(first - second).max() > 100
    label = first[4:24, 8:300]
    assert label.min() < 16, "black letters ..."
    assert label.max() > 239, "... with a white edge"


def test_input_images_show(slept: list[float]) -> None:
    family = Paced(read_pace(PACES[0]))
    dark, bright = (torch.full((1, 3, 512, 512), value) for value in (-1.0, 1.0))
    noise = torch.zeros(1, 4, 8, 8)
    assert family.encode_images(dark, noise).max() < family.encode_images(bright, noise).min()
    assert make_prepared(1).pixels.shape == (3, 64, 64)


def test_an_engine_is_loaded_and_measured_as_any_other(tmp_path: Path) -> None:
    fast = {**json.loads(PACES[0].read_text()), "prompt_s": 0.0}
    fast["curve"] = {**fast["curve"], "step_s": [0.001, 0.002, 0.004, 0.008, 0.016]}
    (tmp_path / "pace.json").write_text(json.dumps(fast))
    settings = DiffusionSettings(
        id="p", source="paced", pace=str(tmp_path / "pace.json"), cache_folder=str(tmp_path)
    )
    engine, card = load_engine(settings)
    engine.close()
    assert (card.family, card.default_width) == ("paced", 512)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("{", "cannot be used"),
        ('{"device": "x"}', "missing required field `model`"),
    ],
)
def test_a_bad_pace_file(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "pace.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=f"pace file .*{said}"):
        load_family(DiffusionSettings(id="p", source="paced", pace=str(path)))


def test_a_pace_belongs_to_the_paced_engine() -> None:
    with pytest.raises(ValueError, match="give both for an engine that only keeps"):
        DiffusionSettings(id="p", source="embedded", pace="x.json")
    with pytest.raises(ValueError, match="give both for an engine that only keeps"):
        DiffusionSettings(id="p", source="paced")
