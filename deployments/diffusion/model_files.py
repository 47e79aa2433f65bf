"""A model on disk: which family it is of, where its weights are, how much memory they take.

Reads names, JSON and headers, and loads nothing.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import safe_open

from deployments.diffusion.families.family import Family
from deployments.diffusion.families.registry import family_of_checkpoint, family_of_pipeline
from deployments.diffusion.settings import DiffusionSettings

EMBEDDED = Path(__file__).parent / "embedded"

UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts of pipelines that no family here runs."""

_LIBRARIES = {"diffusers": diffusers, "transformers": transformers}

_WEIGHTS = re.compile(
    r"(diffusion_pytorch_model|model|pytorch_model)(\.(?P<variant>\w+))?(-\d+-of-\d+)?"
    r"\.(?P<kind>safetensors|bin)"
)


@dataclass(frozen=True)
class Part:
    """A part of the pipeline that has weights: a text encoder, the denoiser, the autoencoder."""

    name: str
    kind: Any
    """Its class, of diffusers or transformers."""
    files: tuple[Path, ...]
    """Empty where the weights are in the checkpoint."""
    variant: str | None
    """As in `model.fp16.safetensors`."""

    def count(self) -> int:
        """Its numbers. Files that are not safetensors are counted by their size, as float32."""
        return sum(
            _numbers(path) if path.suffix == ".safetensors" else path.stat().st_size // 4
            for path in self.files
        )


@dataclass(frozen=True)
class ModelFiles:
    """What `find_model` found."""

    family: type[Family]
    folder: Path
    """A diffusers folder; of a checkpoint, one with the configs and tokenizers."""
    checkpoint: Path | None
    """One file with the weights that the folder does not have."""
    parts: tuple[Part, ...]

    def weights(self) -> Mapping[str, int]:
        """How many numbers each part has; those in the checkpoint together, by its name."""
        counts = {part.name: part.count() for part in self.parts if part.files}
        if self.checkpoint is not None:
            counts[self.checkpoint.name] = _numbers(self.checkpoint)
        return counts


def find_model(settings: DiffusionSettings) -> ModelFiles:
    """The files of `settings.source`, downloaded first if it is a hub id.

    Raises ValueError: what is missing, or what the files are, and the cure.
    """
    source = str(EMBEDDED) if settings.source == "embedded" else settings.source
    path = Path(source).expanduser()
    if path.is_file():
        return _checkpoint(path, settings)
    if path.is_dir():
        return _folder(path, settings)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", source) or source.endswith(".safetensors"):
        raise _wrong(
            settings,
            "there is no such folder or file here; give a diffusers folder, a .safetensors file, "
            "or a hub id as ORGANISATION/NAME",
        )
    return _folder(_downloaded(source, settings), settings)


def _downloaded(source: str, settings: DiffusionSettings) -> Path:
    try:
        folder = diffusers.DiffusionPipeline.download(
            source,
            variant=settings.variant or None,
            use_safetensors=None if settings.allow_pickle else True,
        )
    except (OSError, ValueError, ConnectionError) as error:
        raise _wrong(
            settings,
            f"it is no folder or file here, and the hub did not give it ({error}); check the "
            "name and the network, or give a folder (HF_HUB_OFFLINE=1 uses the local cache only)",
        ) from error
    return Path(folder)


def _folder(folder: Path, settings: DiffusionSettings) -> ModelFiles:
    family, parts = _indexed(folder, settings)
    without = [part.name for part in parts if not part.files]
    if without:
        raise _wrong(
            settings,
            f"{folder} has no weights for {', '.join(without)}{_pickled(folder, without)}",
        )
    return ModelFiles(family, folder, None, parts)


def _pickled(folder: Path, names: list[str]) -> str:
    """The cure for parts without weights that may be used."""
    if any(next((folder / name).glob("*.bin"), None) for name in names):
        return (
            " as safetensors, only as .bin, which can run code as it is read; convert them, or "
            "set allow_pickle: true if you trust whoever made them"
        )
    return "; complete the folder, or its download"


def _checkpoint(path: Path, settings: DiffusionSettings) -> ModelFiles:
    if path.suffix != ".safetensors":
        raise _wrong(settings, "a single file must be .safetensors; convert it first")
    found = family_of_checkpoint(_keys(path))
    if found is None:
        raise _wrong(
            settings,
            "no family here has weights of these names; give the original checkpoint of a "
            "Stable Diffusion 1.x, 2.x, XL, 3 or a FLUX.1",
        )
    if not settings.source_config:
        raise _wrong(
            settings,
            "a single file has no configs and no tokenizers; set source_config to a diffusers "
            f"folder of a {found.name} model (its weights are not needed)",
        )
    folder = Path(settings.source_config).expanduser()
    family, parts = _indexed(folder, settings)
    if family is not found:
        raise _wrong(
            settings,
            f"its weights are of {found.name}, and source_config {folder} is of {family.name}; "
            "give the configs of the same family",
        )
    return ModelFiles(family, folder, path, parts)


def _indexed(folder: Path, settings: DiffusionSettings) -> tuple[type[Family], tuple[Part, ...]]:
    """What a folder's model_index.json says."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise _wrong(
            settings, f"{folder} has no model_index.json: it is not a whole diffusers folder"
        )
    said = json.loads(index.read_text())
    try:
        family = family_of_pipeline(said.get("_class_name", "no _class_name"))
    except ValueError as error:
        raise _wrong(settings, str(error)) from error
    return family, tuple(_parts(folder, said, settings))


def _parts(folder: Path, said: Mapping[str, Any], settings: DiffusionSettings) -> Iterator[Part]:
    for name, value in said.items():
        if name.startswith("_") or name in UNUSED or not isinstance(value, list):
            continue
        library, kind_name = value
        if library is None or (name == "text_encoder_3" and not settings.t5):
            continue
        # Tokenizers' names come and go between versions; diffusers finds those by itself.
        kind = getattr(_LIBRARIES.get(library), kind_name, None)
        if isinstance(kind, type) and issubclass(kind, torch.nn.Module):
            yield Part(name, kind, *_weights_of(folder / name, settings))


def _weights_of(folder: Path, settings: DiffusionSettings) -> tuple[tuple[Path, ...], str | None]:
    """The files of one variant: the wanted one, else the plain one, else the first."""
    kinds = ("safetensors", "bin") if settings.allow_pickle else ("safetensors",)
    for kind in kinds:
        by_variant: dict[str | None, list[Path]] = {}
        for path in sorted(folder.glob(f"*.{kind}")):
            if named := _WEIGHTS.fullmatch(path.name):
                by_variant.setdefault(named["variant"], []).append(path)
        for variant in (settings.variant or None, None, *by_variant):
            if variant in by_variant:
                return tuple(by_variant[variant]), variant
    return (), None


def _numbers(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118


def _keys(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _wrong(settings: DiffusionSettings, what: str) -> ValueError:
    return ValueError(f"model {settings.id}: source is {settings.source!r}: {what}")
