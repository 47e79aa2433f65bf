"""Step caches: what they skip, that each row has its own, and plain twins that they equal."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from diffusers.hooks import FirstBlockCacheConfig, apply_first_block_cache

from deployments.diffusion.caching import cached_denoise
from deployments.diffusion.families.family import Conditioning, Family
from deployments.diffusion.settings import DiffusionSettings
from deployments.requests import PreparedImage, Row
from tests.driving import driven, make_prepared, make_row, pictures
from tests.tiny_families import MAKERS
from tests.tiny_model import open_model

INTERVAL, THRESHOLD = 3, 0.25
SWITCHES: dict[str, dict[str, Any]] = {
    "stable-diffusion": {"deep_cache_interval": INTERVAL},
    "inpainting": {"deep_cache_interval": INTERVAL},
    "xl": {"deep_cache_interval": INTERVAL},
    "sd3": {"first_block_cache_threshold": THRESHOLD},
    "flux": {"first_block_cache_threshold": THRESHOLD},
}


class Model:
    """One tiny model and its switch. Switched on, a model stays so: each engine gets a new one."""

    def __init__(self, name: str, folder: Path) -> None:
        MAKERS[name](folder)
        self._folder, self.switch = folder, SWITCHES[name]

    def opened(self) -> Family:
        return open_model(self._folder)


@pytest.fixture(params=SWITCHES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    return Model(request.param, tmp_path)


def row_of(family: Family, **changes: Any) -> Row:
    sampler = next(iter(family.samplers))
    return make_row(**{"scheduler": sampler, "num_inference_steps": 9, **changes})


def unlike(family: Family) -> list[tuple[Row, PreparedImage | None]]:
    """Rows at different calls whose lanes come and go."""
    masked = make_prepared(4, masked=True)
    return [
        (row_of(family, seed=1), None),
        (row_of(family, seed=2, guidance_scale=1.0, num_inference_steps=5), None),
        (row_of(family, seed=3, guidance_start=0.4), None),
        (row_of(family, seed=4, strength=0.7), masked),
        (row_of(family, seed=5, guidance_end=0.5, num_inference_steps=12), None),
    ]


def test_each_row_has_its_own_cache(model: Model) -> None:
    family = model.opened()
    wanted = unlike(family)
    with driven(family, **model.switch) as engine:
        alone = [pictures(engine, [each])[0] for each in wanted]
    with driven(model.opened(), **model.switch, lane_buckets=(1, 2, 4, 8, 16)) as engine:
        together = pictures(engine, wanted)
        assert engine.stats().max_rows == len(wanted)
    for picture, own in zip(together, alone, strict=True):
        assert np.abs(picture - own).max() <= 1


def test_it_skips_work_and_shows(model: Model) -> None:
    with driven(family := model.opened()) as engine:
        wanted = [(row_of(family, seed=1, num_inference_steps=16), None)]
        plain = pictures(engine, wanted)[0]
        lanes = engine.stats().lane_steps
    counted: list[int] = []

    def count(_: Any, arguments: tuple[Any, ...]) -> None:
        counted.append(len(arguments[0]))

    with driven(family := model.opened(), **model.switch) as engine:
        _deep_part(family.denoiser).register_forward_pre_hook(count)
        cached = pictures(engine, wanted)[0]
    assert 0 < sum(counted) < lanes
    assert np.abs(cached - plain).max() > 0, "lossy, as it says"


def _deep_part(denoiser: Any) -> Any:
    if hasattr(denoiser, "mid_block"):
        return denoiser.mid_block
    return denoiser.transformer_blocks[0].others[-1]


def test_a_step_that_fails_is_repeated_from_unchanged_caches(model: Model) -> None:
    family = model.opened()
    wanted = [(row_of(family, seed=seed), None) for seed in (1, 2)]
    with driven(family, **model.switch) as engine:
        expected = pictures(engine, wanted)
    with driven(model.opened(), **model.switch) as engine:
        inner, calls = engine._layout.cached, [0]
        assert inner is not None

        def moody(*args: Any, **kwargs: Any) -> torch.Tensor:
            output = inner(*args, **kwargs)
            calls[0] += 1
            if calls[0] == 4:
                raise torch.OutOfMemoryError("injected after the work was done")
            return output

        object.__setattr__(engine._layout, "cached", moody)
        found = pictures(engine, wanted)
        assert engine.stats().splits >= 1
    for picture, own in zip(found, expected, strict=True):
        assert np.abs(picture - own).max() <= 1


def test_deep_cache_equals_a_whole_unet_whose_depths_are_frozen(tmp_path: Path) -> None:
    """The plain twin runs everything, and puts in what came from below `INTERVAL` calls ago."""
    for name in ("stable-diffusion", "xl"):
        MAKERS[name](tmp_path / name)
        family, twin = open_model(tmp_path / name), open_model(tmp_path / name)
        unet = twin.denoiser
        frozen: list[torch.Tensor] = []
        calls = [0]

        def freeze(
            _: Any,
            arguments: tuple[Any, ...],
            unet: Any = unet,
            calls: list[int] = calls,
            frozen: list[torch.Tensor] = frozen,
        ) -> tuple[Any, ...]:
            hidden, *rest = arguments
            below = hidden.shape[1] - unet.conv_in.out_channels
            if calls[0] % INTERVAL == 0:
                frozen[:] = [hidden[:, :below].clone()]
            calls[0] += 1
            return (torch.cat([frozen[0], hidden[:, below:]], dim=1), *rest)

        unet.up_blocks[-1].resnets[-1].register_forward_pre_hook(freeze)
        wanted = [(row_of(family, seed=1, num_inference_steps=8), None)]
        with driven(family, deep_cache_interval=INTERVAL) as engine:
            cached = pictures(engine, wanted)[0]
        with driven(twin) as engine:
            expected = pictures(engine, wanted)[0]
        assert np.abs(cached - expected).max() <= 1
        assert calls[0] == 8


def test_first_block_cache_equals_diffusers(tmp_path: Path) -> None:
    MAKERS["flux"](tmp_path)
    family = open_model(tmp_path)
    decode, decoded = family.decode, list[torch.Tensor]()

    def record(latents: torch.Tensor) -> torch.Tensor:
        decoded.extend(latents.clone())
        return decode(latents)

    family.decode = record  # type: ignore[method-assign]
    row = row_of(family, seed=1, num_inference_steps=12)
    with driven(family, first_block_cache_threshold=THRESHOLD) as engine:
        pictures(engine, [(row, None)])
    pipeline: Any = FluxPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    apply_first_block_cache(pipeline.transformer, FirstBlockCacheConfig(threshold=THRESHOLD))
    latents = pipeline(
        prompt=row.prompt,
        width=row.width,
        height=row.height,
        num_inference_steps=row.num_inference_steps,
        guidance_scale=row.guidance_scale,
        generator=torch.Generator().manual_seed(row.seed),
        output_type="latent",
    ).images[0]
    from deployments.diffusion.families.flux import unpacked

    theirs = unpacked(latents[None], *decoded[0].shape[-2:])[0]
    assert float((decoded[0] - theirs).norm() / theirs.norm()) <= 1e-4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"deep_cache_interval": 0}, "deep_cache_interval is 0: use 1 for off"),
        ({"first_block_cache_threshold": 1.0}, "first_block_cache_threshold is 1: use 0 for off"),
        ({"deep_cache_interval": 3, "compile": "default"}, "3 and compile is on"),
        ({"first_block_cache_threshold": 0.1, "strict": True}, "0.1 and strict is on"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DiffusionSettings(id="m", source="embedded", **settings)


def test_a_cache_of_the_other_kind_is_refused(tmp_path: Path, tiny_family: Family) -> None:
    threshold = DiffusionSettings(id="m", source="x", first_block_cache_threshold=0.1)
    with pytest.raises(ValueError, match="has no transformer; set deep_cache_interval"):
        cached_denoise(tiny_family, threshold)
    MAKERS["flux"](tmp_path)
    with pytest.raises(ValueError, match="has no UNet; set first_block_cache_threshold"):
        cached_denoise(
            open_model(tmp_path), DiffusionSettings(id="m", source="x", deep_cache_interval=2)
        )


def test_a_lane_that_is_told_nothing_new_keeps_what_it_has() -> None:
    """`Conditioning` is by lane, so that some lanes of it are a conditioning again."""
    from deployments.diffusion.families.deep_cache import lanes_of

    told: Conditioning = {"encoder_hidden_states": torch.arange(6).view(3, 2)}
    found = lanes_of({**told, "timestep_cond": None, "added_cond_kwargs": dict(told)}, [2, 0])
    assert found["encoder_hidden_states"].tolist() == [[4, 5], [0, 1]]
    assert found["timestep_cond"] is None
    assert found["added_cond_kwargs"]["encoder_hidden_states"].tolist() == [[4, 5], [0, 1]]
