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
from safetensors.torch import load_file

from deployments.diffusion.families.family import Family
from deployments.diffusion.loading import load_engine
from deployments.diffusion.model_files import EMBEDDED
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.switches.attention import fuse, set_kernel
from deployments.diffusion.switches.processors import CrossProcessor, JointProcessor
from tests.driving import drive, driven, pixels
from tests.rows import make_row
from tests.tiny_families import MAKERS, denoised
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


def quantized_layers(family: Family) -> set[str]:
    """Their paths: all layers of the transformer blocks but those of norms, and no other."""
    layers: dict[str, Any] = {
        path: layer.weight
        for path, layer in family.denoiser.named_modules()
        if isinstance(layer, torch.nn.Linear)
    }
    quantized = {path for path, weight in layers.items() if hasattr(weight, "qdata")}
    assert {layers[path].qdata.dtype for path in quantized} == {torch.int8}
    assert quantized == {
        path for path in layers if "transformer_blocks" in path and ".norm" not in path
    }
    return quantized


@pytest.mark.parametrize("quantization", ["int8", "int8-dynamic"])
def test_the_attention_blocks_are_quantized(plain: NDArray[np.int16], quantization: Any) -> None:
    with torch.inference_mode():  # as the engine's thread loads
        family = open_model(EMBEDDED, quantization=quantization)
    assert len(quantized_layers(family)) > 30
    difference = np.abs(picture(family) - plain)
    assert difference.mean() <= LOSSY_MEAN_LEVELS[quantization]
    assert difference.max() > 0


@pytest.mark.parametrize("name", ["xl", "sd3", "flux"])
def test_every_family_can_be_fused_and_quantized(folders: dict[str, Path], name: str) -> None:
    expected = denoised(open_model(folders[name]))
    family = open_model(folders[name], fused_qkv=True, quantization="int8")
    assert quantized_layers(family)
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


def test_a_tiny_vae_without_weights_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    vae = save_tiny_model(tmp_path, random_encoder=False) / "vae"
    latents = torch.randn(1, 4, 8, 8)
    [weights] = vae.glob("*.safetensors")
    torch.save(load_file(weights), vae / "diffusion_pytorch_model.bin")
    expected = open_model(tiny_folder, tiny_vae=str(vae)).preview(latents)
    weights.unlink()
    with pytest.raises(ValueError, match=r"no weights in it as safetensors; complete .*pickle: tr"):
        open_model(tiny_folder, tiny_vae=str(vae))
    pickled = open_model(tiny_folder, tiny_vae=str(vae), allow_pickle=True)
    assert torch.equal(pickled.preview(latents), expected)
