"""A model on disk: which family it is of, and where the weights of its parts are."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from deployments.diffusion.families.family import Family
from deployments.diffusion.families.registry import family_of_checkpoint, family_of_pipeline
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.weights import Part, numbers_of, weights_of

EMBEDDED = Path(__file__).parent / "embedded"

UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts of pipelines that no family here runs."""

_LIBRARIES = {"diffusers": diffusers, "transformers": transformers}


@dataclass(frozen=True)
class ModelFiles:
    """What `find_model` found."""

    family: type[Family]
    folder: Path
    """A diffusers folder; of a checkpoint, one with the configs and tokenizers."""
    checkpoint: Path | None
    """One file with the weights of the parts that have no files of their own."""
    parts: tuple[Part, ...]

    def weights(self) -> Mapping[str, int]:
        """How many numbers each part has.

        What else a checkpoint holds is not read, as the averaged weights of a training.
        """
        in_checkpoint = {} if self.checkpoint is None else numbers_of(self.checkpoint)
        return {
            part.name: part.count()
            if part.files
            else sum(
                count for key, count in in_checkpoint.items() if _is_of(self.family, part, key)
            )
            for part in self.parts
        }


def find_model(settings: DiffusionSettings) -> ModelFiles:
    """The files of `settings.source`, downloaded first if it is a hub id.

    Raises ValueError: what is missing, or what the files are, and the cure.
    """
    try:
        return _found(settings)
    except ValueError as error:
        raise ValueError(f"model {settings.id}: source is {settings.source!r}: {error}") from error


def _found(settings: DiffusionSettings) -> ModelFiles:
    source = str(EMBEDDED) if settings.source == "embedded" else settings.source
    path = Path(source).expanduser()
    if path.is_file():
        return _checkpoint(path, settings)
    if settings.source_config:
        raise ValueError(
            f"it is no file, and source_config is {settings.source_config!r}: a folder or a hub id "
            "has its own configs; leave source_config out"
        )
    if path.is_dir():
        return _folder(path, settings)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", source) or source.endswith(".safetensors"):
        raise ValueError(
            "there is no such folder or file here; give a diffusers folder, a .safetensors file, "
            "or a hub id as ORGANISATION/NAME"
        )
    return _folder(_downloaded(source, settings), settings)


def _downloaded(source: str, settings: DiffusionSettings) -> Path:
    unwanted = [*UNUSED, *([] if settings.t5 else ["text_encoder_3", "tokenizer_3"])]
    try:
        folder = diffusers.DiffusionPipeline.download(
            source,
            variant=settings.variant or None,
            use_safetensors=None if settings.allow_pickle else True,
            **dict.fromkeys(unwanted),  # what is given is not downloaded
        )
    except Exception as error:  # of the hub's client, the network's, the file system's
        raise ValueError(
            f"it is no folder or file here, and the hub did not give it ({error}); check the "
            "name and the network, or give a folder (HF_HUB_OFFLINE=1 uses the local cache only)"
        ) from error
    return Path(folder)


def _folder(folder: Path, settings: DiffusionSettings) -> ModelFiles:
    family, parts = _indexed(folder, settings)
    without = [part.name for part in parts if not part.files]
    if without:
        raise ValueError(
            f"{folder} has no weights for {', '.join(without)}{_cure(folder, without)}"
        )
    return ModelFiles(family, folder, None, parts)


def _cure(folder: Path, names: Sequence[str]) -> str:
    """For parts without weights that may be used."""
    if any(next((folder / name).glob("*.bin"), None) for name in names):
        return (
            " as safetensors, only as .bin, which can run code as it is read; convert them, or "
            "set allow_pickle: true if you trust whoever made them"
        )
    return "; complete the folder, or its download"


def _checkpoint(path: Path, settings: DiffusionSettings) -> ModelFiles:
    if path.suffix != ".safetensors":
        raise ValueError("a single file must be .safetensors; convert it first")
    keys = list(numbers_of(path))
    found = family_of_checkpoint(keys)
    if found is None:
        raise ValueError(
            "no family here has weights of these names; give the original checkpoint of a "
            "Stable Diffusion 1.x, 2.x, XL, 3 or a FLUX.1"
        )
    if not settings.source_config:
        raise ValueError(
            "a single file has no configs and no tokenizers; set source_config to a diffusers "
            f"folder of a {found.name} model"
        )
    folder = Path(settings.source_config).expanduser()
    family, parts = _indexed(folder, settings)
    if family is not found:
        raise ValueError(
            f"its weights are of {found.name}, and source_config {folder} is of {family.name}; "
            "give the configs of the same family"
        )
    own = [part for part in parts if any(_is_of(family, part, key) for key in keys)]
    lacking = [part.name for part in parts if part not in own and not part.files]
    if lacking:
        raise ValueError(
            f"it has no weights for {', '.join(lacking)}, and neither has source_config {folder}; "
            "add them to that folder"
        )
    chosen = tuple(Part(part.name, part.kind) if part in own else part for part in parts)
    return ModelFiles(family, folder, path, chosen)


def _is_of(family: type[Family], part: Part, key: str) -> bool:
    """Whether a key of a checkpoint is of this part."""
    return key.startswith(family.checkpoint_parts[part.name])


def _indexed(folder: Path, settings: DiffusionSettings) -> tuple[type[Family], tuple[Part, ...]]:
    """What a folder's model_index.json says."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise ValueError(f"{folder} has no model_index.json: it is not a whole diffusers folder")
    try:
        said = json.loads(index.read_text())
    except ValueError as error:
        raise ValueError(f"{index} cannot be read ({error}); complete its download") from error
    family = family_of_pipeline(said.get("_class_name", "no _class_name"))
    if not settings.t5 and not family.t5_parts:
        raise ValueError(f"t5 is false, and a {family.name} cannot do without; leave t5 out")
    parts = tuple(_parts(folder, said, family, settings))
    if settings.variant and not any(part.variant == settings.variant for part in parts):
        raise ValueError(
            f"variant is {settings.variant!r}, and no weight file in {folder} is of it; leave "
            "variant out, or give one that the names of the files have"
        )
    return family, parts


def _parts(
    folder: Path, said: Mapping[str, Any], family: type[Family], settings: DiffusionSettings
) -> Iterator[Part]:
    left_out = UNUSED if settings.t5 else (*UNUSED, *family.t5_parts)
    for name, value in said.items():
        if name.startswith("_") or name in left_out or not isinstance(value, list):
            continue
        library, kind_name = value
        if library is None:
            continue
        # Tokenizers' names come and go between versions; diffusers finds those by itself.
        kind = getattr(_LIBRARIES.get(library), kind_name, None)
        if isinstance(kind, type) and issubclass(kind, torch.nn.Module):
            files, variant = weights_of(
                folder / name, variant=settings.variant, pickles=settings.allow_pickle
            )
            yield Part(name, kind, files, variant)
