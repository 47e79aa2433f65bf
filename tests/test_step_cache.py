"""Work of earlier steps used again, in batches of rows that are at different steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from diffusers.hooks import FirstBlockCacheConfig, apply_first_block_cache
from numpy.typing import NDArray

from deployments.diffusion.families.family import Family
from deployments.diffusion.families.flux import unpacked
from deployments.diffusion.loading import load_engine
from deployments.diffusion.model_files import EMBEDDED
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.step_cache import Lane
from deployments.diffusion.switches.caching import step_cache
from deployments.requests import Row
from tests.driving import drive, driven, pixels, wait_until_waiting
from tests.rows import make_row
from tests.tiny_families import MAKERS
from tests.tiny_model import open_model

CACHES: dict[str, dict[str, Any]] = {
    "stable-diffusion": {"deep_cache": 3},
    "xl": {"deep_cache": 2},
    "sd3": {"first_block_cache": 0.5},
    "flux": {"first_block_cache": 0.5},
}
"""By the name of the tiny model."""

LOSSY_MEAN_LEVELS = 9.0
"""Of 255: what `deep_cache: 2` may change of a picture of the embedded model, whose UNet has but
three levels, in 20 steps. Seen: 6.4."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name in CACHES:
        made[name] = tmp_path_factory.mktemp("model")
        MAKERS[name](made[name])
    return made


class Blocks:
    """Lanes for which the inner blocks ran, step by step."""

    def __init__(self, family: Family) -> None:
        self.lanes: list[int] = []
        denoiser = family.denoiser
        if hasattr(denoiser, "mid_block"):
            inner = denoiser.mid_block.resnets[0]
        elif hasattr(denoiser, "single_transformer_blocks"):
            inner = denoiser.single_transformer_blocks[-1].norm
        else:
            inner = denoiser.transformer_blocks[-1].norm1
        inner.register_forward_pre_hook(lambda _, inputs: self.lanes.append(len(inputs[0])))


def alone(family: Family, row: Row, **cache: Any) -> NDArray[np.int16]:
    with driven(family, **cache) as engine:
        future = engine.submit(row)
        drive(engine, [future])
        return pixels(future.result())


def mixed_rows(family: Family) -> list[Row]:
    """Their steps, samplers, and the calls at which they are guided differ."""
    samplers = [each for each in family.samplers if not each.endswith("Scheduler")][:4]
    return [
        make_row(
            seed=seed,
            prompt=f"house number {seed}",
            num_inference_steps=5 + seed,
            scheduler=samplers[seed % len(samplers)],
            guidance_scale=(1.0, 3.0, 7.5)[seed % 3],
            guidance_start=0.3 * (seed % 2),
            guidance_end=1.0 - 0.2 * (seed % 2),
        )
        for seed in range(5)
    ]


@pytest.mark.parametrize("name", CACHES)
def test_a_picture_is_the_same_whoever_shares_the_batch(
    folders: dict[str, Path], name: str
) -> None:
    family, cache = open_model(folders[name]), CACHES[name]
    rows = mixed_rows(family)
    expected = [alone(open_model(folders[name]), row, **cache) for row in rows]
    blocks = Blocks(family)
    with driven(family, **cache) as engine:
        early = [engine.submit(row) for row in rows[:3]]
        wait_until_waiting(engine, 3)
        engine.step()
        engine.step()
        late = [engine.submit(row) for row in rows[3:]]  # they join rows that have begun
        wait_until_waiting(engine, 2)
        drive(engine, [*early, *late])
        assert engine.stats().max_rows >= 4
        all_lanes = engine.stats().lane_steps
    for future, picture in zip([*early, *late], expected, strict=True):
        assert np.abs(pixels(future.result()) - picture).max() <= 1
    # Those who joined late ran all blocks in steps in which others did not.
    assert 0 < sum(blocks.lanes) < 0.8 * all_lanes


@pytest.mark.parametrize(("every", "lanes"), [(1, [1] * 7), (2, [1] * 4), (3, [1] * 3), (9, [1])])
def test_inner_blocks_run_at_every_so_many_calls(
    folders: dict[str, Path], every: int, lanes: Sequence[int]
) -> None:
    family = open_model(folders["stable-diffusion"])
    blocks = Blocks(family)
    row = make_row(num_inference_steps=7, guidance_scale=1.0)
    alone(family, row, deep_cache=every)
    assert blocks.lanes == lanes


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_a_first_block_that_changes_lets_the_others_run(
    folders: dict[str, Path], name: str
) -> None:
    row = make_row(num_inference_steps=6, guidance_scale=1.0, scheduler="Euler")
    expected = alone(open_model(folders[name]), row)
    ran = {}
    for threshold in (1e-9, 1e9):
        family = open_model(folders[name])
        blocks = Blocks(family)
        found = alone(family, row, first_block_cache=threshold)
        ran[threshold] = blocks.lanes
        if threshold < 1:
            assert np.array_equal(found, expected)
    assert ran == {1e-9: [1] * 6, 1e9: [1]}


class Calls:
    """As much of a run as a cache asks for."""

    def __init__(self, call: int) -> None:
        self.call, self.calls_left = call, 9


@pytest.mark.parametrize("name", CACHES)
def test_what_was_left_a_moment_ago_is_as_good_as_new(folders: dict[str, Path], name: str) -> None:
    family = open_model(folders[name])
    tokens = family.tokenize("a red house", weighting=False, max_chunks=1)
    latents, times = torch.randn(2, family.latent_channels, 8, 8), torch.tensor([900.0, 200.0])
    with torch.inference_mode():
        told = {**family.encode_prompts(tokens.chunks), **family.told((64, 64), 3.0)}
        told = {key: tensor.repeat_interleave(2, 0) for key, tensor in told.items()}
        expected = family.denoise(latents, times, told)
        cache: Any = step_cache(family, DiffusionSettings(id="x", source="x", **CACHES[name]))
        blocks, first, second = Blocks(family), Calls(0), Calls(0)
        lanes: Any = [Lane(first, False), Lane(second, False)]  # type: ignore[arg-type]
        found = [cache.denoise(lanes, latents, times, told)]
        first.call = second.call = 1
        found.append(cache.denoise(lanes, latents, times, told))
        found.append(cache.denoise(lanes[::-1], latents.flip(0), times.flip(0), told).flip(0))
    assert blocks.lanes == [2]
    for output in found:
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def test_nothing_is_kept_of_rows_that_are_done(folders: dict[str, Path]) -> None:
    family = open_model(folders["stable-diffusion"])
    with driven(family, deep_cache=2) as engine:
        cache: Any = engine._layout.cache
        future = engine.submit(make_row(num_inference_steps=4))
        wait_until_waiting(engine, 1)
        engine.step()
        [kept] = cache._memory._kept.values()
        assert sorted(kept) == [False, True]
        drive(engine, [future])
        assert not cache._memory._kept


def test_a_cached_picture_is_near_the_plain_one(embedded_family: Family) -> None:
    row = make_row(
        width=256, height=256, num_inference_steps=20, scheduler="DPMSolverMultistepScheduler"
    )
    plain = alone(embedded_family, row)
    cached = alone(open_model(EMBEDDED), row, deep_cache=2)
    assert 0 < np.abs(cached - plain).mean() <= LOSSY_MEAN_LEVELS


def test_a_loaded_engine_has_its_cache(folders: dict[str, Path], tmp_path: Path) -> None:
    settings = DiffusionSettings(
        id="tiny", source=str(folders["flux"]), device="cpu", lane_buckets=(1, 2),
        first_block_cache=1e9, cache_folder=str(tmp_path), max_queue_s=1e9,
    )  # fmt: skip
    with torch.inference_mode():
        engine, _ = load_engine(settings)
        assert engine._layout.cache is not None
        future = engine.submit(make_row(scheduler="Euler"))
        drive(engine, [future])
        engine.close()
    assert future.result().model_calls == 6


@pytest.mark.parametrize(
    ("name", "cache", "message"),
    [
        ("flux", {"deep_cache": 2}, "is for UNets.*set deep_cache: 1, and first_block_cache: 0.1"),
        ("xl", {"first_block_cache": 0.1}, "is for transformers.*and deep_cache: 2"),
    ],
)
def test_the_cache_of_another_kind_of_model_is_refused(
    folders: dict[str, Path], name: str, cache: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        open_model(folders[name], **cache)


def test_first_block_cache_equals_diffusers(folders: dict[str, Path]) -> None:
    """Alone, and without a second lane, a row's lane is diffusers' whole batch."""
    family, row = open_model(folders["flux"]), make_row(scheduler="Euler", num_inference_steps=12)
    decode, decoded = family.decode, list[torch.Tensor]()

    def record(latents: torch.Tensor) -> torch.Tensor:
        decoded.extend(latents.clone())
        return decode(latents)

    family.decode = record  # type: ignore[method-assign]
    blocks = Blocks(family)
    alone(family, row, first_block_cache=0.25)
    assert len(blocks.lanes) < 12
    pipeline: Any = FluxPipeline.from_pretrained(folders["flux"])
    pipeline.set_progress_bar_config(disable=True)
    apply_first_block_cache(pipeline.transformer, FirstBlockCacheConfig(threshold=0.25))
    latents = pipeline(
        prompt=row.prompt,
        width=row.width,
        height=row.height,
        num_inference_steps=row.num_inference_steps,
        guidance_scale=row.guidance_scale,
        generator=torch.Generator().manual_seed(row.seed),
        output_type="latent",
    ).images[0]
    theirs = unpacked(latents[None], *decoded[0].shape[-2:])[0]
    assert float((decoded[0] - theirs).norm() / theirs.norm()) <= 1e-4


@pytest.mark.parametrize("name", ["stable-diffusion", "xl"])
def test_deep_cache_equals_a_whole_unet_whose_depths_are_frozen(
    folders: dict[str, Path], name: str
) -> None:
    """The plain twin runs everything, and lets into its last block what came in three calls ago."""
    row, frozen, calls = make_row(num_inference_steps=8), list[torch.Tensor](), [0]
    twin = open_model(folders[name])

    def freeze(_: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if calls[0] % 3 == 0:
            frozen[:] = [named["hidden_states"].clone()]
        calls[0] += 1
        return inputs, {**named, "hidden_states": frozen[0]}

    twin.denoiser.up_blocks[-1].register_forward_pre_hook(freeze, with_kwargs=True)
    expected = alone(twin, row)
    assert calls[0] == 8
    assert np.abs(alone(open_model(folders[name]), row, deep_cache=3) - expected).max() <= 1
