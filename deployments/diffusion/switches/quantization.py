"""`quantization`: the denoiser's linear layers in 8 bits, by torchao."""

from typing import Any

import torch

from deployments.diffusion.settings import Quantization

_CONFIGS = {
    "int8": "Int8WeightOnlyConfig",
    "int8-dynamic": "Int8DynamicActivationInt8WeightConfig",
    "fp8": "Float8WeightOnlyConfig",
    "fp8-dynamic": "Float8DynamicActivationFloat8WeightConfig",
}
"""torchao's names."""


def quantize(denoiser: Any, quantization: Quantization) -> None:
    """In place. One scale for each output of a layer; entering numbers, one for each token."""
    # Here and not above: the package is optional.
    from torchao import quantization as torchao

    config = getattr(torchao, _CONFIGS[quantization])
    options = {"granularity": torchao.PerRow()} if quantization == "fp8-dynamic" else {}
    # Its settings for the compiler are for the whole process, and slow our compiled steps' start.
    torchao.quantize_(denoiser, config(set_inductor_config=False, **options), is_quantized)


def is_quantized(module: torch.nn.Module, name: str) -> bool:
    """Layers that every token passes. Those that only the time or the text's gist passes, once a
    lane, cost next to nothing, and all the others build on them."""
    return (
        isinstance(module, torch.nn.Linear) and "transformer_blocks" in name and ".norm" not in name
    )
