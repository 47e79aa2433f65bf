"""From an adapter's file to what it adds to each layer of a model.

diffusers knows the formats by which trainers write them, Kohya's among them, and turns each into
its own names; here these become layers. What is no plain LoRA is refused, since a part of it alone
would make another picture than was meant.
"""

import logging
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from safetensors import safe_open

from deployments.diffusion.adapters.layers import why_unfit
from deployments.diffusion.adapters.weights import Delta, LoadedAdapter
from deployments.diffusion.families.family import Family
from deployments.diffusion.settings import Adapter
from deployments.errors import AdapterFailed

logger = logging.getLogger(__name__)

USUAL_NAME = "pytorch_lora_weights.safetensors"
"""What diffusers calls the file in a folder."""

_OTHER_KINDS = ("dora_scale", "lora_magnitude_vector", "lokr_", "hada_", "oft_", "glora")
"""In names of DoRA, LoKr, LoHa, OFT and GLoRA."""

_Named = Mapping[str, Any]
_Convert = Callable[[_Named], _Named]


class _Unusable(Exception):
    """Why a file cannot be used, in words for the client."""


def adapter_file(adapter: Adapter) -> Path:
    """The file itself. Raises AdapterFailed where there is none, or no telling which it is."""
    source = Path(adapter.source).expanduser()
    if source.is_file():
        return source
    found = sorted(source.glob("*.safetensors"))
    usual = [path for path in found if path.name == USUAL_NAME]
    if len(usual or found) == 1:
        return (usual or found)[0]
    logger.error("adapter %s: %s has %d .safetensors files", adapter.name, source, len(found))
    raise _failed(
        adapter.name,
        "its source has several files, and must name one" if found else "its file is missing",
    )


def read_adapter(adapter: Adapter, family: Family) -> LoadedAdapter:
    """Everything that the adapter adds. Raises AdapterFailed."""
    path = adapter_file(adapter)
    try:
        return LoadedAdapter(adapter.name, _parts(path, family))
    except _Unusable as error:
        logger.error("adapter %s: %s %s", adapter.name, path, error)
        raise _failed(adapter.name, f"its file {error}") from None
    except Exception as error:  # whatever a damaged file makes of diffusers' conversions
        logger.exception("adapter %s: %s cannot be read", adapter.name, path)
        raise _failed(adapter.name, "its file cannot be read") from error


def _failed(name: str, why: str) -> AdapterFailed:
    return AdapterFailed(
        f"lora {name!r} cannot be used: {why}; ask for another, or tell whoever runs this service"
    )


def _parts(path: Path, family: Family) -> dict[str, dict[str, Delta]]:
    with safe_open(path, framework="pt") as file:
        keys = list(file.keys())
    for key in keys:
        if any(kind in key for kind in _OTHER_KINDS):
            raise _Unusable(f"has {key!r}: it is no plain LoRA, which alone is served here")
    state, *alphas, metadata = family.adapter_state(path)
    parts = family.slots.parts
    if not state:
        raise _Unusable("has no weights")
    for key in state:
        if key.partition(".")[0] not in parts:
            raise _Unusable(f"has {key!r}, and the model's parts are {', '.join(parts)}")
    return {
        name: _deltas(
            part,
            _unet_names if name in family.slots.denoiser_parts else _text_names(part),
            _within(name, state),
            _within(name, (alphas and alphas[0]) or {}),
            _within(name, metadata or {}),
        )
        for name, part in parts.items()
        if _within(name, state)
    }


def _within(part: str, named: _Named) -> dict[str, Any]:
    """What is of a part, by its names there."""
    prefix = f"{part}."
    return {
        key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)
    }


def _unet_names(state: _Named) -> _Named:
    """The names of PEFT, for the keys of a denoiser."""
    converted: _Named = convert_unet_state_dict_to_peft(state)
    return converted


def _text_names(encoder: Any) -> _Convert:
    def convert(state: _Named) -> _Named:
        """The same for the keys of a text encoder."""
        converted: _Named = convert_state_dict_to_peft(convert_state_dict_to_diffusers(state))
        if hasattr(encoder, "text_model"):
            return converted
        return {key.removeprefix("text_model."): value for key, value in converted.items()}

    return convert


def _deltas(
    part: Any, convert: _Convert, state: _Named, alphas: _Named, metadata: _Named
) -> dict[str, Delta]:
    """By the layer. `alphas` are Kohya's, `metadata` is the PEFT config that diffusers saves."""
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in convert(state).items():
        layer, _, side = key.rpartition(".lora_")
        if not layer or side not in ("A.weight", "B.weight"):
            raise _Unusable(f"has {key!r}, which is no weight of a LoRA")
        pairs.setdefault(layer, {})[side[0]] = tensor
    known, alpha_of = dict(part.named_modules()), _alphas(convert, alphas)
    deltas = {}
    for layer, pair in pairs.items():
        if pair.keys() != {"A", "B"}:
            raise _Unusable(f"has one of the two weights of {layer}")
        if layer not in known:
            raise _Unusable(f"is of another model: this one has no {layer}")
        delta = Delta(pair["A"], pair["B"])
        if (why := why_unfit(known[layer], delta)) is not None:
            raise _Unusable(f"is of another model: {layer} here {why}")
        factor = alpha_of.get(layer, delta.rank) / delta.rank
        deltas[layer] = delta._replace(
            factor=_configured(metadata, layer, delta.rank) if metadata else factor
        )
    return deltas


def _alphas(convert: _Convert, alphas: _Named) -> dict[str, float]:
    """By the layer; diffusers names some after the layer and some after its weight."""
    keys = {key.removesuffix(".alpha"): alpha for key, alpha in alphas.items()}
    if not keys:
        return {}
    return {key.partition(".lora_")[0]: float(alpha) for key, alpha in convert(keys).items()}


def _configured(metadata: _Named, layer: str, rank: int) -> float:
    """The factor by a PEFT config, where a pattern that ends the layer's name comes first."""
    alpha = next(
        (
            value
            for pattern, value in (metadata.get("alpha_pattern") or {}).items()
            if re.match(rf"(.*\.)?({pattern})$", layer)
        ),
        metadata["lora_alpha"],
    )
    return float(alpha) / (math.sqrt(rank) if metadata.get("use_rslora") else rank)
