"""Every switch takes effect, and the picture stays the plain one within its tolerance."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention_processor import (
    AttnProcessor,
    AttnProcessor2_0,
    SlicedAttnProcessor,
)
from numpy.typing import NDArray
from optimizations.peak import peak_bytes

from deployments.diffusion.families.family import Family
from deployments.diffusion.loading import load_engine
from deployments.diffusion.memory import GIB, check_fits
from deployments.diffusion.model_files import EMBEDDED
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.switches.attention import fuse, set_kernel
from deployments.diffusion.switches.placement import layers_ahead_of_use, one_part_at_a_time
from deployments.diffusion.switches.processors import CrossProcessor, JointProcessor
from tests.driving import drive, driven, make_row, pixels, wait_until_waiting
from tests.tiny_families import MAKERS
from tests.tiny_model import open_model, save_tiny_model

CPU = torch.device("cpu")

ROUNDING_LEVELS = 1
"""Of 255: what the order of additions may change in a picture."""

LOSSY_MEAN_LEVELS = {"int8": 0.3, "int8-dynamic": 1.0, "bfloat16": 1.0}
"""Of 255: what a picture of the embedded model may change by on average. Seen: 0.1, 0.4, 0.5."""


def picture(family: Family, **changes: Any) -> NDArray[np.int16]:
    """One picture of the embedded model, by its engine."""
    row = make_row(
        width=256,
        height=256,
        num_inference_steps=6,
        scheduler="DPMSolverMultistepScheduler",
        **changes,
    )
    with driven(family) as engine:
        future = engine.submit(row)
        drive(engine, [future])
        return pixels(future.result())


@pytest.fixture(scope="module")
def plain() -> NDArray[np.int16]:
    """The picture with nothing switched on."""
    return picture(open_model(EMBEDDED, channels_last=False))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name in ("stable-diffusion", "xl", "sd3", "flux"):
        made[name] = tmp_path_factory.mktemp("model")
        MAKERS[name](made[name])
    return made


def denoised(family: Family, lanes: int = 2) -> torch.Tensor:
    """What the denoiser makes of lanes of noise at different times."""
    tokens = family.tokenize("a red house", weighting=False, max_chunks=1)
    with torch.inference_mode():
        told = {**family.encode_prompts(tokens.chunks), **family.told((64, 64), 3.0)}
        random = torch.Generator().manual_seed(3)
        latents = torch.randn(lanes, family.latent_channels, 8, 8, generator=random)
        times = torch.linspace(100, 900, lanes)
        return family.denoise(
            latents, times, {key: t.repeat_interleave(lanes, 0) for key, t in told.items()}
        )


# Memory format, dtype


def test_channels_last_is_how_weights_and_latents_lie(plain: NDArray[np.int16]) -> None:
    for wanted in (True, False):
        family = open_model(EMBEDDED, channels_last=wanted)
        for part in (family.denoiser, family.pipeline.vae):
            weights = [w for w in part.parameters() if w.ndim == 4 and min(w.shape[1:3]) > 1]
            assert weights
            lying = {w.is_contiguous(memory_format=torch.channels_last) for w in weights}
            assert lying == {wanted}
        assert np.abs(picture(family) - plain).max() <= ROUNDING_LEVELS


def test_bfloat16_is_near(plain: NDArray[np.int16]) -> None:
    family = open_model(EMBEDDED, dtype="bfloat16")
    assert {w.dtype for w in family.denoiser.parameters()} == {torch.bfloat16}
    assert np.abs(picture(family) - plain).mean() <= LOSSY_MEAN_LEVELS["bfloat16"]


# Attention


@pytest.mark.parametrize(
    ("attention", "processor"),
    [("sdpa", AttnProcessor2_0), ("sliced", SlicedAttnProcessor), ("plain", AttnProcessor)],
)
def test_the_attention_is_the_chosen_one(
    plain: NDArray[np.int16], attention: Any, processor: type
) -> None:
    family = open_model(EMBEDDED, attention=attention)
    found = {type(each) for each in family.denoiser.attn_processors.values()}
    assert found == {processor}
    assert np.abs(picture(family) - plain).max() <= ROUNDING_LEVELS


def test_slicing_takes_less_memory_than_plain_attention_and_more_than_sdpa(
    tiny_folder: Path,
) -> None:
    taken = {}
    told = {"encoder_hidden_states": torch.randn(4, 16, 32)}
    latents, times = torch.randn(4, 4, 64, 64), torch.full((4,), 500.0)
    for attention in ("sdpa", "sliced", "plain"):
        family = open_model(tiny_folder, attention=attention)
        with torch.inference_mode():
            taken[attention] = peak_bytes(partial(family.denoise, latents, times, told), CPU)
    assert taken["sdpa"] < taken["sliced"] < taken["plain"] / 2


@pytest.mark.parametrize("name", ["sd3", "flux"])
@pytest.mark.parametrize("attention", ["sliced", "plain"])
def test_a_transformer_has_neither_sliced_nor_plain_attention(
    folders: dict[str, Path], name: str, attention: str
) -> None:
    with pytest.raises(ValueError, match=f"{attention}.*is for UNets.*set attention: sdpa"):
        open_model(folders[name], attention=attention)


@pytest.mark.parametrize("name", ["stable-diffusion", "xl", "sd3", "flux"])
@pytest.mark.parametrize("fused", [False, True])
def test_our_processors_attend_as_diffusers_own(
    folders: dict[str, Path], name: str, fused: bool
) -> None:
    family = open_model(folders[name])
    expected, weights = denoised(family), numbers(family.denoiser)
    if fused:
        fuse(family.denoiser)
    set_kernel(family.denoiser, "native")
    kinds = {type(each).__name__ for each in family.denoiser.attn_processors.values()}
    assert kinds == {
        {"sd3": "JointProcessor", "flux": "FluxAttnProcessor"}.get(name, "CrossProcessor")
    }
    assert all(
        each._attention_backend == "native" for each in family.denoiser.attn_processors.values()
    )
    torch.testing.assert_close(denoised(family), expected, rtol=1e-4, atol=1e-5)
    assert numbers(family.denoiser) == weights


def numbers(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.parametrize("fused", [False, True])
def test_norms_and_layers_without_text_of_stable_diffusion_3_5_are_kept(fused: bool) -> None:
    torch.manual_seed(0)
    model = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=3,
        attention_head_dim=8, num_attention_heads=4, joint_attention_dim=16,
        caption_projection_dim=32, pooled_projection_dim=16, pos_embed_max_size=32,
        dual_attention_layers=(0, 1), qk_norm="rms_norm",
    )  # fmt: skip
    told = {
        "hidden_states": torch.randn(2, 4, 16, 16),
        "timestep": torch.tensor([100.0, 900.0]),
        "encoder_hidden_states": torch.randn(2, 7, 16),
        "pooled_projections": torch.randn(2, 16),
        "return_dict": False,
    }
    with torch.inference_mode():
        expected = model(**told)[0]
        if fused:
            fuse(model)
        set_kernel(model, "native")
        found = model(**told)[0]
    assert all(isinstance(each, JointProcessor) for each in model.attn_processors.values())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_fused_layers_take_the_place_of_three(plain: NDArray[np.int16]) -> None:
    family = open_model(EMBEDDED, fused_qkv=True)
    layers = dict(family.denoiser.named_modules())
    first = layers["mid_block.attentions.0.transformer_blocks.0.attn1"]
    second = layers["mid_block.attentions.0.transformer_blocks.0.attn2"]
    assert first.to_qkv.weight.shape == (3 * 192, 192)
    assert second.to_kv.weight.shape == (2 * 192, 128)
    assert first.to_q is first.to_k is first.to_v is second.to_k is second.to_v is None
    assert isinstance(first.processor, CrossProcessor)
    assert np.abs(picture(family) - plain).max() <= ROUNDING_LEVELS


# Quantization


@pytest.mark.parametrize("quantization", ["int8", "int8-dynamic"])
def test_the_attention_blocks_are_quantized(plain: NDArray[np.int16], quantization: Any) -> None:
    with torch.inference_mode():  # as the engine's thread loads
        family = open_model(EMBEDDED, quantization=quantization)
    quantized, others = list[Any](), list[Any]()
    for name, layer in family.denoiser.named_modules():
        if isinstance(layer, torch.nn.Linear):
            inside = "transformer_blocks" in name
            (quantized if inside else others).append(layer.weight)
    assert len(quantized) > 30
    assert {weight.qdata.dtype for weight in quantized} == {torch.int8}
    assert {type(weight) for weight in others} == {torch.nn.Parameter}
    difference = np.abs(picture(family) - plain)
    assert difference.mean() <= LOSSY_MEAN_LEVELS[quantization]
    assert difference.max() > 0


@pytest.mark.parametrize("name", ["xl", "sd3", "flux"])
def test_every_family_can_be_fused_and_quantized(folders: dict[str, Path], name: str) -> None:
    expected = denoised(open_model(folders[name]))
    family = open_model(folders[name], fused_qkv=True, quantization="int8")
    layers = [
        layer.weight
        for path, layer in family.denoiser.named_modules()
        if isinstance(layer, torch.nn.Linear) and hasattr(layer.weight, "qdata")
    ]
    assert layers
    error = (denoised(family) - expected).norm() / expected.norm()
    assert error < 0.01


@pytest.mark.slow
def test_fused_and_quantized_layers_can_be_compiled(
    tiny_folder: Path, tiny_family: Family, tmp_path: Path
) -> None:
    settings = DiffusionSettings(
        id="tiny", source=str(tiny_folder), device="cpu", compile="default", lane_buckets=(2,),
        fused_qkv=True, quantization="int8", cache_folder=str(tmp_path), max_queue_s=1e9,
    )  # fmt: skip
    with torch.inference_mode():
        engine, _ = load_engine(settings)
        future = engine.submit(make_row())
        drive(engine, [future])
        assert engine.stats().recompiles == 0
        engine.close()
    with driven(tiny_family) as plain:
        expected = plain.submit(make_row())
        drive(plain, [expected])
    difference = np.abs(pixels(future.result()) - pixels(expected.result()))
    assert difference.mean() <= LOSSY_MEAN_LEVELS["int8"]


# Autoencoder


def test_slicing_decodes_one_at_a_time(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, sliced = open_model(tiny_folder), open_model(tiny_folder, vae_slicing=True)
    latents = torch.randn(4, 4, 8, 8)
    decoder, seen = sliced.pipeline.vae.decoder, []
    decoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    with torch.inference_mode():
        expected, found = whole.decode(latents), sliced.decode(latents)
        taken = [peak_bytes(partial(f.decode, latents), CPU) for f in (whole, sliced)]
    assert seen[:4] == [1, 1, 1, 1]
    assert (expected.int() - found.int()).abs().max() <= ROUNDING_LEVELS
    assert taken[1] < taken[0] / 2


def test_a_tiny_vae_makes_previews() -> None:
    family = open_model(EMBEDDED, tiny_vae=str(EMBEDDED / "vae"))
    latents = torch.randn(2, 12, 16, 16)
    with torch.inference_mode():
        shown, decoded = family.preview(latents), family.decode(latents)
    assert shown.shape == (2, 256, 256, 3)
    assert torch.equal(shown, decoded)


def test_a_tiny_vae_makes_everything(tmp_path: Path) -> None:
    folder, other = save_tiny_model(tmp_path / "one"), tmp_path / "other"
    save_tiny_model(other, random_encoder=False)
    family = open_model(folder, tiny_vae=str(other / "vae"), tiny_vae_for="everything")
    expected = open_model(other)
    latents, images = torch.randn(2, 4, 8, 8), torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(family.decode(latents), expected.decode(latents))
        assert torch.equal(family.preview(latents), family.decode(latents))
        encoded = family.encode_images(images, latents)
        assert torch.equal(encoded, expected.encode_images(images, latents))
    assert not family.encoder_is_random


def test_a_tiny_vae_for_other_latents_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    wrong = {
        str(tmp_path): "there is no config.json",
        str(tiny_folder / "vae"): "it has a AutoencoderKL",
        str(EMBEDDED / "vae"): "12 channels and are 16 times smaller.* the model's have 4",
    }
    for folder, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            open_model(tiny_folder, tiny_vae=folder)


# Offload


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


@pytest.mark.parametrize("name", ["stable-diffusion", "sd3"])
def test_layers_that_come_ahead_of_use_compute_the_same(
    folders: dict[str, Path], name: str
) -> None:
    family, expected = open_model(folders[name]), denoised(open_model(folders[name]))
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
        drive(engine, first)
        assert engine.stats().waiting == 1
        drive(engine, [late])
        expected = [picture.result() for picture in (*first, late)]
    with driven(tiny_family) as usual:
        again = usual.submit(make_row(seed=2, num_inference_steps=2))
        drive(usual, [again])
    assert np.abs(pixels(again.result()) - pixels(expected[2])).max() <= ROUNDING_LEVELS


# What cannot work is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "flash"}, "kernels know no float32; set dtype: bfloat16"),
        ({"attention": "sage"}, "kernels know no float32"),
        ({"attention": "sliced", "fused_qkv": True}, "set fused_qkv: false, or attention: sdpa"),
        ({"attention": "plain", "fused_qkv": True}, "layers of their own"),
        ({"quantization": "fp8-dynamic"}, "set dtype: bfloat16, or quantization: fp8"),
        ({"offload": "model", "compile": "default"}, "needs its weights to stay"),
        ({"offload": "sequential", "quantization": "int8"}, "set offload: group"),
        ({"tiny_vae_for": "everything"}, "tiny_vae is empty"),
        ({"deep_cache": 2, "compile": "default"}, "whose steps are all alike; set deep_cache: 1"),
        ({"deep_cache": 2, "strict": True}, "set strict: false, or deep_cache: 1"),
        ({"first_block_cache": 0.1, "strict": True}, "set strict: false, or first_block_cache: 0"),
        ({"first_block_cache": 0.1, "offload": "group"}, "set offload: model"),
        ({"first_block_cache": -0.1}, "use 0 or more"),
        ({"deep_cache": 0}, "must be at least 1"),
    ],
)
def test_switches_that_exclude_each_other_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DiffusionSettings(id="tiny", source="embedded", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "xformers"}, r"xformers \(pip install 'stepwise-serve\[gpu\]'\) and a CUDA"),
        ({"attention": "flash", "dtype": "bfloat16"}, r"pip install flash-attn\) and a CUDA GPU"),
        ({"attention": "sage", "dtype": "bfloat16"}, r"pip install sageattention\) and a CUDA GPU"),
        ({"quantization": "fp8"}, "a CUDA GPU of capability 8.9 or newer.* quantization: int8"),
        ({"quantization": "fp8-dynamic", "dtype": "bfloat16"}, "capability 8.9 or newer"),
        ({"offload": "model"}, "a CUDA GPU: not to be had here; or set offload: none"),
        ({"offload": "sequential"}, "a CUDA GPU"),
        ({"offload": "group"}, "a CUDA GPU"),
    ],
)
def test_switches_that_this_machine_cannot_have_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    if torch.cuda.is_available() and settings.get("attention") is None:
        settings = {**settings, "device": "cpu"}
    with pytest.raises(ValueError, match=f"model tiny: .*{message}"):
        open_model(EMBEDDED, **settings)


@pytest.mark.parametrize(
    ("settings", "needs_gib"),
    [
        ({}, 14.0),
        ({"dtype": "bfloat16"}, 7.0),
        ({"dtype": "bfloat16", "quantization": "int8"}, 5.0),
        ({"dtype": "bfloat16", "offload": "model"}, 4.0),
        ({"dtype": "bfloat16", "offload": "group"}, 1.0),
    ],
)
def test_what_is_needed_goes_by_the_switches(settings: dict[str, Any], needs_gib: float) -> None:
    weights = {"transformer": 2 * GIB, "text_encoder_3": GIB, "vae": GIB // 2}
    chosen, gpu = DiffusionSettings(id="tiny", source="x", **settings), torch.device("cuda")
    check_fits(chosen, gpu, weights, int(needs_gib * GIB), "are free")
    with pytest.raises(ValueError, match=f"need {needs_gib:.2f} GiB.* quantization, offload"):
        check_fits(chosen, gpu, weights, int(needs_gib * GIB) - 1, "are free")
