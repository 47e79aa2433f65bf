"""Lane buckets, and the denoiser compiled for them."""

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from deployments.diffusion.compiled import bucketed
from deployments.diffusion.families.stable_diffusion import StableDiffusion
from deployments.diffusion.loading import load_engine
from deployments.diffusion.settings import DiffusionSettings
from tests.driving import drive, driven, make_row, pixels


@pytest.mark.parametrize(("lanes", "seen"), [(1, 2), (2, 2), (3, 4), (4, 4)])
def test_lanes_are_padded_to_the_next_bucket(lanes: int, seen: int) -> None:
    shapes = []

    def denoise(
        latents: torch.Tensor, timesteps: torch.Tensor, text: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        shapes.append((len(latents), len(timesteps), len(text["a"])))
        return latents + timesteps.reshape(-1, 1, 1, 1) + text["a"].reshape(-1, 1, 1, 1)

    latents = torch.arange(float(lanes)).reshape(-1, 1, 1, 1)
    timesteps, text = torch.arange(float(lanes)) * 10, {"a": torch.arange(float(lanes)) * 100}
    output = bucketed(denoise, (2, 4))(latents, timesteps, text)  # type: ignore[arg-type]
    assert shapes == [(seen, seen, seen)]
    assert output.flatten().tolist() == [111.0 * lane for lane in range(lanes)]


@pytest.mark.slow
def test_a_compiled_engine_gives_the_same_pictures(tiny_family: StableDiffusion) -> None:
    source = tiny_family._pipeline.config._name_or_path
    with torch.inference_mode():
        engine, card = load_engine(
            DiffusionSettings(
                id="tiny", source=source, device="cpu", compile="default", lane_buckets=(2, 4)
            )
        )
        warm = counters["stats"]["unique_graphs"]
        compiled = [engine.submit(make_row(seed=seed, guidance_scale=1.0)) for seed in range(3)]
        drive(engine, compiled)
        engine.close()
    assert warm == 2  # one graph for each bucket, and none later
    assert counters["stats"]["unique_graphs"] == warm
    with driven(tiny_family) as engine:
        eager = [engine.submit(make_row(seed=seed, guidance_scale=1.0)) for seed in range(3)]
        drive(engine, eager)
    assert (card.min_side, card.default_width, card.max_side) == (64, 64, 64)
    for one, other in zip(compiled, eager, strict=True):
        assert np.abs(pixels(one.result()) - pixels(other.result())).max() <= 1
