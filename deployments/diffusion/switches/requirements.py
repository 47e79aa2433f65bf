"""What a switch needs of the machine: a GPU, and which; a package. Checked before all is read."""

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import torch
from diffusers.utils.import_utils import compare_versions

from deployments.diffusion.settings import DiffusionSettings


@dataclass(frozen=True)
class Needs:
    """What one value of one setting needs, and what to set where that is not to be had."""

    instead: str
    package: str = ""
    """As it is imported."""
    install: str = ""
    """How it is installed."""
    at_least: str = ""
    """The oldest version that diffusers takes."""
    gpu: str = "a CUDA GPU"
    """In words; empty where a CPU will do."""
    capability: tuple[int, int] = (0, 0)
    """Of the GPU, at least."""

    def missing(self, device: torch.device) -> list[str]:
        """What of it is not here, in words that say how to come by it."""
        found = []
        if self.package and not self._has_package():
            found.append(f"the package {self._package_in_words()} (pip install {self.install})")
        if self.gpu and not self._is_met_by(device):
            found.append(self.gpu)
        return found

    def _has_package(self) -> bool:
        if find_spec(self.package) is None:
            return False
        return not self.at_least or compare_versions(self.package, ">=", self.at_least)

    def _package_in_words(self) -> str:
        if not self.at_least:
            return self.package
        wanted = f"{self.package} {self.at_least} or newer"
        return f"{wanted}, and not {version(self.package)}" if find_spec(self.package) else wanted

    def _is_met_by(self, device: torch.device) -> bool:
        if device.type != "cuda":
            return False
        return torch.cuda.get_device_capability(device) >= self.capability


_TORCHAO = "'stepwise-serve[quantization]'"
_INT8 = Needs("quantization: none", "torchao", _TORCHAO, gpu="")
_FP8 = Needs(
    "quantization: int8",
    "torchao",
    _TORCHAO,
    gpu="a CUDA GPU of capability 8.9 or newer, as Ada and Hopper",
    capability=(8, 9),
)
_AMPERE = "a CUDA GPU of capability 8.0 or newer, as Ampere, Ada and Hopper"
_OFFLOAD = Needs("offload: none; on a CPU all weights are in the host's memory as it is")

NEEDS = {
    ("attention", "xformers"): Needs(
        "attention: sdpa", "xformers", "'stepwise-serve[gpu]'", at_least="0.0.29"
    ),
    ("attention", "flash"): Needs(
        "attention: sdpa",
        "flash_attn",
        "--no-build-isolation 'flash-attn>=2.6.3'",
        at_least="2.6.3",
        gpu=_AMPERE,
        capability=(8, 0),
    ),
    # The package index has version 1 only.
    ("attention", "sage"): Needs(
        "attention: sdpa",
        "sageattention",
        "--no-build-isolation git+https://github.com/thu-ml/SageAttention",
        at_least="2.1.1",
        gpu=_AMPERE,
        capability=(8, 0),
    ),
    ("quantization", "int8"): _INT8,
    ("quantization", "int8-dynamic"): _INT8,
    ("quantization", "fp8"): _FP8,
    ("quantization", "fp8-dynamic"): _FP8,
    ("offload", "model"): _OFFLOAD,
    ("offload", "sequential"): _OFFLOAD,
    ("offload", "group"): _OFFLOAD,
}
"""By setting and value; what is not listed runs everywhere."""


def check_requirements(settings: DiffusionSettings, device: torch.device) -> None:
    """Raises ValueError for a switch that cannot be on here: what it needs, and the cure."""
    for (name, value), needs in NEEDS.items():
        if getattr(settings, name) != value:
            continue
        if missing := needs.missing(device):
            raise ValueError(
                f"model {settings.id}: {name} is {value!r}, which needs {' and '.join(missing)}: "
                f"not to be had here; or set {needs.instead}"
            )
