"""What cannot be switched on is refused at the start, with the reason and the cure."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models import attention_dispatch

from deployments.diffusion.memory import GIB, check_fits
from deployments.diffusion.model_files import EMBEDDED
from deployments.diffusion.settings import Adapter, DiffusionSettings
from deployments.diffusion.switches.attention import set_attention
from deployments.diffusion.switches.requirements import NEEDS, Needs
from tests.tiny_families import save_stable_diffusion
from tests.tiny_model import open_model

CPU = torch.device("cpu")
ADAPTERS = (Adapter(name="watercolour", source="watercolour.safetensors"),)


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
        ({"adapters": ADAPTERS, "fused_qkv": True}, "set fused_qkv: false, or leave adapters"),
        ({"adapters": ADAPTERS, "quantization": "int8"}, "set quantization: none, or leave"),
        ({"adapters": ADAPTERS, "offload": "group"}, "set offload: model, or leave adapters out"),
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
        (
            {"attention": "xformers"},
            r"xformers 0.0.29 or newer \(pip install 'stepwise-serve\[gpu\]'\) and a CUDA GPU",
        ),
        (
            {"attention": "flash", "dtype": "bfloat16"},
            r"flash_attn 2.6.3 or newer \(.*flash-attn>=2.6.3'\) and a CUDA GPU of capability 8.0",
        ),
        (
            {"attention": "sage", "dtype": "bfloat16"},
            r"sageattention 2.1.1 or newer \(.*github.*\) and a CUDA GPU of capability 8.0",
        ),
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


def test_a_package_that_is_too_old_is_missing() -> None:
    older = Needs("x: y", "torchao", "torchao", at_least="0.0.1", gpu="")
    assert older.missing(CPU) == []
    [said] = replace(older, at_least="999").missing(CPU)
    assert (
        said
        == f"the package torchao 999 or newer, and not {version('torchao')} (pip install torchao)"
    )


def test_packages_are_as_new_as_diffusers_wants() -> None:
    for value in ("xformers", "flash", "sage"):
        wanted = getattr(attention_dispatch, f"_REQUIRED_{value.upper()}_VERSION")
        assert NEEDS["attention", value].at_least == wanted


@pytest.mark.parametrize("attention", ["flash", "sage"])
def test_a_gpu_that_is_too_old_is_missing(monkeypatch: pytest.MonkeyPatch, attention: str) -> None:
    gpu, needs = torch.device("cuda"), NEEDS["attention", attention]
    for capability, is_missing in (((7, 5), True), ((8, 0), False), ((9, 0), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert (needs.gpu in needs.missing(gpu)) == is_missing


@pytest.mark.parametrize(("attention", "width"), [("sage", 136), ("flash", 264)])
def test_heads_that_are_too_wide_for_a_kernel_are_refused(
    tmp_path: Path, attention: Any, width: int
) -> None:
    """Stable Diffusion 1.x has heads of 160."""
    save_stable_diffusion(tmp_path, block_out_channels=(16, width), attention_head_dim=1)
    settings = DiffusionSettings(id="tiny", source="x", attention=attention, dtype="bfloat16")
    with pytest.raises(ValueError, match=f"has some of {width}; set attention: sdpa"):
        set_attention(open_model(tmp_path).denoiser, settings)


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
