"""Every family against its diffusers pipelines: the same row, the same final latents."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)

from deployments.diffusion.engine import Engine
from deployments.diffusion.families.family import SEEN_IMAGE
from deployments.diffusion.families.flux import unpacked
from deployments.diffusion.loading import load_engine
from deployments.diffusion.sampling import FlowShift, make_scheduler
from deployments.diffusion.settings import DiffusionSettings
from deployments.requests import PreparedImage, Row
from tests.driving import drive, driven, pictures
from tests.pipelines import MODES
from tests.rows import make_prepared, make_row
from tests.tiny_families import MAKERS
from tests.tiny_model import open_model

TOLERANCE = 1e-4

PIPELINES: dict[str, tuple[Any, Any, Any]] = {
    "stable-diffusion": (
        StableDiffusionPipeline,
        StableDiffusionImg2ImgPipeline,
        StableDiffusionInpaintPipeline,
    ),
    "stable-diffusion-xl": (
        StableDiffusionXLPipeline,
        StableDiffusionXLImg2ImgPipeline,
        StableDiffusionXLInpaintPipeline,
    ),
    "stable-diffusion-3": (
        StableDiffusion3Pipeline,
        StableDiffusion3Img2ImgPipeline,
        StableDiffusion3InpaintPipeline,
    ),
    "flux": (FluxPipeline, FluxImg2ImgPipeline, FluxInpaintPipeline),
}
"""For text, for an image, for an image with a mask."""

SAMPLERS_OF = {
    "stable-diffusion": ("DDIM", "Euler a", "DPM++ 2M Karras"),
    "stable-diffusion-xl": ("EulerDiscreteScheduler", "DPM++ 2M SDE"),
    "stable-diffusion-3": ("FlowMatchEulerDiscreteScheduler", "Heun", "DPM++ 2M", "UniPC"),
    "flux": ("FlowMatchEulerDiscreteScheduler", "Euler Beta"),
}


class Subject:
    """One tiny model, its engine, and the latents that the engine hands to the decoder."""

    def __init__(self, family: Any, engine: Engine) -> None:
        self.family, self.engine = family, engine
        self.decoded: list[torch.Tensor] = []
        decode = family.decode

        def record(latents: torch.Tensor) -> torch.Tensor:
            self.decoded.extend(latents.clone())
            pixels: torch.Tensor = decode(latents)
            return pixels

        family.decode = record

    def latents(self, row: Row, prepared: PreparedImage | None) -> torch.Tensor:
        """The engine's final latents, (C, h, w)."""
        self.decoded.clear()
        future = self.engine.submit(row, prepared)
        drive(self.engine, [future])
        future.result()
        return self.decoded[0]


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Subject]]:
    with ExitStack() as stack:
        found = {}
        for name, save in MAKERS.items():
            folder = tmp_path_factory.mktemp("model")
            save(folder)
            family = open_model(folder)
            found[name] = Subject(family, stack.enter_context(driven(family)))
        yield found


def by_pipeline(family: Any, row: Row, prepared: PreparedImage | None) -> torch.Tensor:
    """The same row by the diffusers pipeline itself: final latents (C, h, w)."""
    masked = prepared is not None and prepared.mask is not None
    kind = PIPELINES[family.name][0 if prepared is None else 1 + masked]
    parts = {**family.pipeline.components}
    if family.name in ("stable-diffusion-3", "flux"):
        parts = {name: part for name, part in parts.items() if name not in UNUSED}
    size = (row.width, row.height)
    scheduler = make_scheduler(
        row.scheduler, family.scheduler_config, family.samplers, family.flow_shift(size)
    )
    if family.flow_shift(size) is not None and not hasattr(scheduler, "scale_noise"):
        # The pipelines for images ask for it by this name alone.
        scheduler.scale_noise = lambda clean, time, noise: scheduler.add_noise(clean, noise, time)
    parts["scheduler"] = scheduler
    pipeline = kind(**parts, **({"requires_safety_checker": False} if kind in OLD else {}))
    pipeline.set_progress_bar_config(disable=True)
    found: torch.Tensor = pipeline(**arguments_of(family, row, prepared)).images[0]
    if family.name == "flux":
        cells = (row.height // family.latent_factor, row.width // family.latent_factor)
        return unpacked(found[None], *cells)[0]
    return found


OLD = PIPELINES["stable-diffusion"]
UNUSED = ("image_encoder", "feature_extractor")


def arguments_of(family: Any, row: Row, prepared: PreparedImage | None) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "prompt": row.prompt,
        "num_inference_steps": row.num_inference_steps,
        "guidance_scale": row.guidance_scale,
        "generator": torch.Generator().manual_seed(row.seed),
        "output_type": "latent",
    }
    if family.has_second_lane:
        arguments["negative_prompt"] = row.negative_prompt or None
    if family.name == "flux":
        arguments["max_sequence_length"] = len(family._text_ids)
    masked = prepared is not None and prepared.mask is not None
    sized = prepared is None or masked or family.name in ("stable-diffusion-3", "flux")
    if sized:
        arguments |= {"width": row.width, "height": row.height}
    if prepared is not None:
        image = torch.tensor(prepared.pixels)[None]
        # The newer pipelines' image processors want 0..1; where a tensor is below 0 they leave it.
        arguments |= {"image": image, "strength": row.strength}
    if prepared is not None and prepared.mask is not None:
        arguments |= {"mask_image": torch.tensor(prepared.mask)[None, None]}
    return arguments


def combinations() -> Iterator[Any]:
    for name in MAKERS:
        family = {"xl": "stable-diffusion-xl", "sd3": "stable-diffusion-3", "flux": "flux"}.get(
            name.split()[0], "stable-diffusion"
        )
        for mode in MODES:
            if "inpainting" in name and not mode.startswith("inpaint"):
                continue  # their pipelines take nothing else
            if name == "lcm" and mode.startswith("inpaint"):
                continue
            for sampler in SAMPLERS_OF[family]:
                yield pytest.param(name, mode, sampler, id=f"{name}-{mode}-{sampler}")


@pytest.mark.parametrize(("name", "mode", "sampler"), [*combinations()])
def test_latents_equal_the_pipeline(
    subjects: dict[str, Subject], name: str, mode: str, sampler: str
) -> None:
    subject = subjects[name]
    strength, masked = MODES[mode]
    row = make_row(
        scheduler=sampler, seed=5, strength=strength, num_inference_steps=6, prompt="Oh! A house!!"
    )
    prepared = None if strength is None else make_prepared(1, masked=masked)
    if prepared is None:
        row = replace(row, width=96)
    ours, theirs = subject.latents(row, prepared), by_pipeline(subject.family, row, prepared)
    error = float((ours - theirs).norm() / theirs.norm())
    assert error <= TOLERANCE, f"relative error {error:.1e}"


FEW = [
    ("xl turbo", "EulerAncestralDiscreteScheduler", 1, 0.0),
    ("xl turbo", "EulerAncestralDiscreteScheduler", 4, 0.0),
    ("lcm", "LCM", 4, 8.0),
    ("lcm", "LCM", 1, 1.0),
    ("flux schnell", "FlowMatchEulerDiscreteScheduler", 1, 0.0),
]


@pytest.mark.parametrize(("name", "sampler", "steps", "guidance"), FEW)
def test_few_steps_equal_the_pipeline(
    subjects: dict[str, Subject], name: str, sampler: str, steps: int, guidance: float
) -> None:
    """Models distilled for it, at the settings that they are made for."""
    subject = subjects[name]
    row = make_row(scheduler=sampler, seed=6, num_inference_steps=steps, guidance_scale=guidance)
    ours, theirs = subject.latents(row, None), by_pipeline(subject.family, row, None)
    error = float((ours - theirs).norm() / theirs.norm())
    assert error <= TOLERANCE, f"relative error {error:.1e}"
    assert subject.engine.stats().lane_steps > 0


@pytest.mark.parametrize("name", MAKERS)
def test_rows_that_differ_in_everything_share_a_batch(
    subjects: dict[str, Subject], name: str
) -> None:
    family = subjects[name].family
    samplers = [each for each in family.samplers if not each.endswith("Scheduler")][:5]
    wanted = []
    for seed in range(6):
        prepared = make_prepared(seed, masked=seed % 2 == 0) if seed % 3 == 2 else None
        row = make_row(
            seed=seed,
            prompt=f"house number {seed}",
            negative_prompt="blurred" if seed % 2 else "",
            num_inference_steps=4 + seed,
            scheduler=samplers[seed % len(samplers)],
            guidance_scale=(1.0, 3.0, 7.5)[seed % 3],
            strength=0.5 if prepared else None,
        )
        wanted.append((row, prepared))
    with driven(family) as engine:
        alone = [pictures(engine, [each])[0] for each in wanted]
    with driven(family, lane_buckets=(1, 2, 4, 8, 16)) as engine:
        together = pictures(engine, wanted)
        assert engine.stats().max_rows == len(wanted)
    for picture, own in zip(together, alone, strict=True):
        assert np.abs(picture - own).max() <= 1


@pytest.mark.parametrize("name", MAKERS)
def test_half_precision_draws_about_the_same(
    subjects: dict[str, Subject], name: str, tmp_path: Path
) -> None:
    MAKERS[name](tmp_path)
    family = open_model(tmp_path, dtype="bfloat16")
    row = make_row(seed=7, scheduler=next(iter(family.samplers)))
    wanted = [(row, None)]
    with driven(subjects[name].family) as engine:
        [whole] = pictures(engine, wanted)
    with driven(family) as engine:
        [half] = pictures(engine, wanted)
    assert np.abs(half - whole).mean() < 4


def test_a_model_that_sees_is_shown_the_mask_and_what_it_leaves(
    subjects: dict[str, Subject],
) -> None:
    family = subjects["inpainting"].family
    seen: list[torch.Tensor] = []
    denoise = family.denoise

    def look(latents: torch.Tensor, timesteps: torch.Tensor, told: Any) -> torch.Tensor:
        seen.append(told[SEEN_IMAGE])
        output: torch.Tensor = denoise(latents, timesteps, told)
        return output

    ragged = make_prepared(1, masked=True)
    assert ragged.mask is not None
    ragged.mask[:, 29:] = 1  # not on a latent cell's edge
    with driven(family) as engine:
        object.__setattr__(engine._layout, "denoise", look)
        pictures(engine, [(make_row(seed=1), None)])
        pictures(engine, [(make_row(seed=1, strength=1.0), ragged)])
    text, masked = seen[0], seen[-1]
    grey = family.encode_images(torch.zeros(1, 3, 64, 64), torch.zeros(1, 4, 8, 8))
    assert text.shape == (2, 5, 8, 8)
    assert (text[:, :1] == 1).all()
    torch.testing.assert_close(text[:, 1:], grey.expand(2, -1, -1, -1))
    as_diffusers = torch.nn.functional.interpolate(torch.tensor(ragged.mask)[None, None], (8, 8))
    assert (masked[:, :1] == as_diffusers).all()


def test_samplers_of_others_shift_as_the_models_own(subjects: dict[str, Subject]) -> None:
    """What the pipelines of SD3 and FLUX tell FlowMatchEuler, as the shift of DPM++ and UniPC."""
    family = subjects["flux"].family
    flow = family.flow_shift((96, 64))
    for sampler in ("DPM++ 2M", "UniPC"):
        other = make_scheduler(sampler, family.scheduler_config, family.samplers, flow)
        other.set_timesteps(10)
        plain = make_scheduler(sampler, family.scheduler_config, family.samplers, FlowShift(0.0))
        plain.set_timesteps(10)
        own = make_scheduler("Euler", family.scheduler_config, family.samplers, flow)
        own.set_timesteps(10, sigmas=plain.sigmas[:-1].numpy(), mu=flow.mu)
        torch.testing.assert_close(other.sigmas, own.sigmas, rtol=1e-5, atol=1e-6)


def test_what_a_distilled_model_does_not_read_is_told(subjects: dict[str, Subject]) -> None:
    row = make_row(
        negative_prompt="blurred",
        guidance_end=0.5,
        prompt="a (red:1.4) house",
        prompt_weighting=True,
        scheduler="Euler",
    )
    future = subjects["flux"].engine.submit(row)
    drive(subjects["flux"].engine, [future])
    assert future.result().warnings == (
        "prompt has weights: this model gives none, and read it without",
        "negative_prompt, guidance_end not followed: this model has no lane without the prompt",
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["xl", "inpainting", "sd3", "flux"])
def test_a_compiled_step_gives_the_same_pictures(
    subjects: dict[str, Subject], name: str, tmp_path: Path
) -> None:
    torch._dynamo.reset()
    family = subjects[name].family
    samplers = [each for each in family.samplers if not each.endswith("Scheduler")]
    masked = make_prepared(4, masked=True)
    wanted: list[tuple[Row, PreparedImage | None]] = [
        (make_row(seed=1, scheduler=samplers[0]), None),
        (make_row(seed=2, scheduler=samplers[-1], guidance_scale=1.0), None),
        (make_row(seed=3, scheduler=samplers[1], strength=0.8), masked),
    ]
    MAKERS[name](tmp_path / "model")
    settings = DiffusionSettings(
        id="tiny",
        source=str(tmp_path / "model"),
        device="cpu",
        compile="default",
        sizes=("64x64",),
        lane_buckets=(2, 4),
        cache_folder=str(tmp_path / "cache"),
        max_queue_s=1e9,
    )
    with torch.inference_mode():
        engine, _ = load_engine(settings)
        compiled = pictures(engine, wanted)
        recompiles = engine.stats().recompiles
        engine.close()
    assert recompiles == 0
    with driven(family) as eager:
        expected = pictures(eager, wanted)
    for picture, plain in zip(compiled, expected, strict=True):
        assert np.abs(picture - plain).max() <= 1
