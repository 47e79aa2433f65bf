"""Weight files: which of a folder's belong together, and how many numbers are in them.

Reads names and headers, and loads nothing.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

_NAME = re.compile(
    r"(diffusion_pytorch_model|model|pytorch_model)(\.(?P<variant>\w+))?(-\d+-of-(?P<shards>\d+))?"
    r"\.(safetensors|bin)"
)


@dataclass(frozen=True)
class Part:
    """A part of a pipeline that has weights: a text encoder, the denoiser, the autoencoder."""

    name: str
    kind: Any
    """Its class, of diffusers or transformers."""
    files: tuple[Path, ...] = ()
    """Empty where the weights are in a checkpoint."""
    variant: str | None = None
    """As in `model.fp16.safetensors`."""

    def count(self) -> int:
        """Its numbers. Of files that are not safetensors it is a guess, by their size."""
        each = 2 if self.variant is not None and "16" in self.variant else 4
        return sum(
            sum(numbers_of(path).values())
            if path.suffix == ".safetensors"
            else path.stat().st_size // each
            for path in self.files
        )


def weights_of(folder: Path, *, variant: str, pickles: bool) -> tuple[tuple[Path, ...], str | None]:
    """The files of one variant: the wanted one, else the plain one, else the first; and which.

    None where there are none. Raises ValueError where a shard is missing.
    """
    for kind in ("safetensors", "bin") if pickles else ("safetensors",):
        by_variant: dict[str | None, list[Path]] = {}
        for path in sorted(folder.glob(f"*.{kind}")):
            if named := _NAME.fullmatch(path.name):
                by_variant.setdefault(named["variant"], []).append(path)
        for each in (variant or None, None, *by_variant):
            if each in by_variant:
                _check_shards(by_variant[each])
                return tuple(by_variant[each]), each
    return (), None


def numbers_of(path: Path) -> Mapping[str, int]:
    """The tensors of a safetensors file -> how many numbers each has.

    Raises ValueError where it cannot be read.
    """
    with _opened(path) as file:
        return {key: math.prod(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as safetensors ({error}); complete its download (of a git "
            "checkout: git lfs pull)"
        ) from error


def _check_shards(files: list[Path]) -> None:
    named = _NAME.fullmatch(files[0].name)
    if named is None or named["shards"] is None:
        return
    if len(files) != int(named["shards"]):
        there = ", ".join(path.name for path in files)
        raise ValueError(
            f"{files[0].parent} has {len(files)} of {int(named['shards'])} weight files ({there}); "
            "complete the folder, or its download"
        )
