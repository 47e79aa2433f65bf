"""Padding to declared buckets, and steps compiled for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deployments.diffusion.families.family import Family
from deployments.diffusion.loading import load_engine
from deployments.diffusion.settings import DiffusionSettings
from deployments.requests import PreparedImage, Row
from tests.driving import drive, driven, pictures, wait_until_waiting
from tests.rows import make_prepared, make_row


def test_lanes_are_padded_to_the_largest_bucket_under_strict(
    tiny_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoise, shapes = tiny_family.denoise, set()

    def seen(
        latents: torch.Tensor, timesteps: torch.Tensor, told: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        shapes.add((len(latents), len(timesteps), len(told["encoder_hidden_states"])))
        return denoise(latents, timesteps, told)

    monkeypatch.setattr(tiny_family, "denoise", seen)
    with driven(tiny_family, strict=True, lane_buckets=(1, 2, 8)) as engine:
        futures = [engine.submit(make_row(seed=seed, guidance_scale=1 + seed)) for seed in range(3)]
        wait_until_waiting(engine, 3)
        drive(engine, futures)
        assert engine.stats().lane_steps == (1 + 2 + 2) * 6  # padding is not counted
    assert shapes == {(8, 8, 8)}


def mixed() -> list[tuple[Row, PreparedImage | None]]:
    """Rows whose samplers, guidance, masks and lanes differ."""
    return [
        (make_row(seed=1, scheduler="Euler a", guidance_end=0.5), None),
        (make_row(seed=2, scheduler="PLMS", guidance_scale=1.0), None),
        (make_row(seed=3, scheduler="UniPC", strength=0.8), make_prepared(3)),
        (make_row(seed=4, scheduler="Heun", strength=0.8), make_prepared(4, masked=True)),
        (make_row(seed=5, scheduler="DPM++ 2M Karras", guidance_rescale=0.5), None),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["whole", "regional"])
def test_a_compiled_engine_gives_the_same_pictures_and_compiles_nothing_later(
    tiny_family: Family, tiny_folder: Path, tmp_path: Path, scope: str
) -> None:
    torch._dynamo.reset()
    settings: dict[str, Any] = {"id": "tiny", "source": str(tiny_folder), "device": "cpu"}
    settings |= {"compile": "default", "compile_scope": scope, "lane_buckets": (2, 4)}
    settings |= {"sizes": ("64x64", "32x64"), "cache_folder": str(tmp_path), "max_queue_s": 1e9}
    with torch.inference_mode():
        engine, card = load_engine(DiffusionSettings(**settings))
        compiled = pictures(engine, mixed())
        other_size = pictures(engine, [(make_row(seed=9, width=32), None)])
        stats = engine.stats()
        engine.close()
    assert card.sizes == ((64, 64), (32, 64))
    assert stats.finished == 6
    assert stats.recompiles == 0
    with driven(tiny_family) as eager:
        expected = pictures(eager, mixed()) + pictures(eager, [(make_row(seed=9, width=32), None)])
    for picture, wanted in zip([*compiled, *other_size], expected, strict=True):
        assert np.abs(picture - wanted).max() <= 1
    assert list((tmp_path / "curves").glob("*.json")), "the measured curve is kept"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [(("64",), "write a size as 1024x768"), (("60x64",), "must be multiples of 8")],
)
def test_sizes_that_cannot_be_are_refused(
    tiny_folder: Path, sizes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_engine(DiffusionSettings(id="tiny", source=str(tiny_folder), sizes=sizes))
