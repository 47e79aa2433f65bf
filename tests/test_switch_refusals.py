"""What cannot be switched on is refused at the start, with the reason and the cure."""

from typing import Any

import pytest
import torch

from deployments.diffusion.memory import GIB, check_fits
from deployments.diffusion.model_files import EMBEDDED
from deployments.diffusion.settings import Adapter, DiffusionSettings
from tests.tiny_model import open_model

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
