"""Parts of a model that are on the device only while they are needed."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from deployments.diffusion.families.family import Family
from deployments.diffusion.switches.placement import layers_ahead_of_use, one_part_at_a_time
from tests.driving import drive, driven, pixels, wait_until_waiting
from tests.rows import make_row
from tests.tiny_families import MAKERS, denoised
from tests.tiny_model import open_model, save_tiny_model

CPU = torch.device("cpu")


class Moves:
    """Records where parts are sent, and leaves them."""

    def __init__(self, family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[tuple[str, str]] = []
        for name in ("text_encoder", "unet", "vae"):
            part = getattr(family.pipeline, name)
            monkeypatch.setattr(
                part, "to", lambda device, name=name: self.made.append((name, device.type))
            )


def test_one_part_at_a_time_is_on_the_device(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, expected = open_model(tiny_folder), denoised(open_model(tiny_folder))
    moves = Moves(family, monkeypatch)
    one_part_at_a_time(family.pipeline, torch.device("meta"))
    assert sorted(moves.made) == [("text_encoder", "cpu"), ("unet", "cpu"), ("vae", "cpu")]
    moves.made.clear()
    latents = torch.zeros(1, 4, 8, 8)
    with torch.inference_mode():
        assert torch.equal(denoised(family), expected)
        denoised(family)
        family.decode(latents)
        family.encode_images(torch.zeros(1, 3, 64, 64), latents)
    on, off = "meta", "cpu"
    assert moves.made == [
        *[("text_encoder", on), ("text_encoder", off), ("unet", on)],
        *[("unet", off), ("text_encoder", on), ("text_encoder", off), ("unet", on)],
        *[("unet", off), ("vae", on)],
    ]


def test_a_part_that_did_not_fit_is_back_on_the_host(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, moves = open_model(tiny_folder), list[tuple[str, str]]()
    expected = denoised(family)
    has_room = False

    def moved(name: str, device: torch.device) -> None:
        moves.append((name, device.type))
        if name == "unet" and device.type == "meta" and not has_room:
            raise torch.OutOfMemoryError("too large")

    for name in ("text_encoder", "unet", "vae"):
        monkeypatch.setattr(getattr(family.pipeline, name), "to", partial(moved, name))
    one_part_at_a_time(family.pipeline, torch.device("meta"))
    moves.clear()
    with pytest.raises(torch.OutOfMemoryError):
        denoised(family)
    failed = [("text_encoder", "meta"), ("text_encoder", "cpu"), ("unet", "meta"), ("unet", "cpu")]
    assert moves == failed
    moves.clear()
    has_room = True
    assert torch.equal(denoised(family), expected)
    assert moves == failed[:3]


def test_a_tiny_autoencoder_stays_on_the_device(tmp_path: Path) -> None:
    family = open_model(save_tiny_model(tmp_path, random_encoder=False))
    one_part_at_a_time(family.pipeline, torch.device("meta"))
    devices = {
        name: next(getattr(family.pipeline, name).parameters()).device.type
        for name in ("text_encoder", "unet", "vae")
    }
    assert devices == {"text_encoder": "cpu", "unet": "cpu", "vae": "meta"}
    assert not hasattr(family.pipeline.vae, "_hf_hook")


@pytest.mark.parametrize("name", ["stable-diffusion", "sd3"])
def test_layers_that_come_ahead_of_use_compute_the_same(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path)
    family, expected = open_model(tmp_path), denoised(open_model(tmp_path))
    layers_ahead_of_use(family.pipeline, CPU)
    torch.testing.assert_close(denoised(family), expected)
    hooked = [m for m in family.denoiser.modules() if hasattr(m, "_diffusers_hook")]
    assert hooked
    assert not any(hasattr(m, "_diffusers_hook") for m in family.pipeline.vae.modules())


def test_with_whole_parts_moving_rows_run_in_waves(tiny_family: Family) -> None:
    with driven(tiny_family, offload="model") as engine:
        first = [engine.submit(make_row(seed=s, num_inference_steps=2 + 2 * s)) for s in (0, 1)]
        wait_until_waiting(engine, 2)
        engine.step()
        late = engine.submit(make_row(seed=2, num_inference_steps=2))
        wait_until_waiting(engine, 1)
        engine.step()
        assert not first[0].done()  # sampled, and not decoded yet
        assert engine.stats().waiting == 1
        while engine.stats().finished < 2:
            engine.step()
            assert engine.stats().waiting == 1
        drive(engine, [*first, late])
        expected = [picture.result() for picture in (*first, late)]
    with driven(tiny_family) as usual:
        again = usual.submit(make_row(seed=2, num_inference_steps=2))
        drive(usual, [again])
    assert np.abs(pixels(again.result()) - pixels(expected[2])).max() <= 1
