"""Where adapters act in a loaded model. It knows no files; what it wears is handed to it.

Nothing is compiled anew by a change: an eager model's layers are handed the tensors themselves, and
a compiled one's have room for what was reserved, which is then filled in place.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from deployments.diffusion.adapters.layers import adapt, put_on
from deployments.diffusion.adapters.weights import NO_ADAPTERS, AdapterSet
from deployments.errors import AdapterFailed
from deployments.requests import AdapterUse


class Slots:
    """One model's. All but `check` and `wears` is for the thread that owns the device."""

    def __init__(self, parts: Mapping[str, Any], denoiser: Any, device: torch.device) -> None:
        """`parts` are the pipeline's modules by name, with the denoiser among them."""
        self.parts = {
            name: part
            for name, part in parts.items()
            if name != "vae" and isinstance(part, torch.nn.Module)
        }
        """What adapters may change."""
        self._device = device
        self.denoiser_parts = tuple(name for name, part in self.parts.items() if part is denoiser)
        self.text_parts = tuple(name for name in self.parts if name not in self.denoiser_parts)
        self._layers: dict[str, dict[str, Any]] = {name: {} for name in self.parts}
        self._worn: dict[str, tuple[AdapterUse, ...] | None] = dict.fromkeys(self.parts, ())
        self._room: dict[str, int] | None = None

    @property
    def room(self) -> int:
        """The rank that was reserved, of all layers together; 0 where nothing was."""
        return sum((self._room or {}).values())

    def reserve(self, room: Mapping[str, int]) -> None:
        """Makes room for so much rank in layers of the denoiser, to be compiled with it."""
        [part] = self.denoiser_parts
        self._room = dict(room)
        for name, rank in room.items():
            layer = self.parts[part].get_submodule(name)
            adapt(layer, room=rank)
            self._layers[part][name] = layer

    def check(self, adapters: AdapterSet) -> None:
        """Raises AdapterFailed for what the compiled denoiser has no room for. For any thread."""
        if self._room is None:
            return
        for part in self.denoiser_parts:
            for layer, deltas in adapters.deltas(part).items():
                rank, room = sum(delta.rank for delta in deltas), self._room.get(layer, 0)
                if rank > room:
                    raise AdapterFailed(
                        f"lora {_names(adapters.uses)} needs rank {rank} in {layer}, and the "
                        f"compiled step has room for {room}: its file has changed since the model "
                        "was loaded; ask for another, or have the replicas started anew"
                    )

    def wears(self, uses: tuple[AdapterUse, ...]) -> bool:
        """Whether the denoiser acts with exactly these, of those that change it.

        For any thread: while another changes it, the answer is of before or after.
        """
        return all(self._worn[part] == uses for part in self.denoiser_parts)

    def wear(self, adapters: AdapterSet) -> bool:
        """The denoiser acts with these adapters and no others. False if it did already."""
        return self._wear(adapters, self.denoiser_parts)

    def wear_text(self, adapters: AdapterSet) -> bool:
        """The same of the text encoders."""
        return self._wear(adapters, self.text_parts)

    def wears_text(self, adapters: AdapterSet) -> bool:
        """Whether the text encoders act with these and no others."""
        return all(self._worn[part] == adapters.touching((part,)) for part in self.text_parts)

    def take_off(self) -> None:
        """Nothing acts on any part, and the memory of what did is free."""
        self._wear(NO_ADAPTERS, tuple(self.parts))
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _wear(self, adapters: AdapterSet, parts: Sequence[str]) -> bool:
        changed = False
        for part in parts:
            wanted = adapters.touching((part,))
            if self._worn[part] == wanted:
                continue
            self._worn[part] = None  # until all of it is done: memory may run out in between
            self._put_on(part, adapters)
            self._worn[part] = wanted
            changed = True
        if changed and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # what it costs must show here
        return changed

    def _put_on(self, part: str, adapters: AdapterSet) -> None:
        in_place = self._room is not None and part in self.denoiser_parts
        layers, wanted = self._layers[part], adapters.deltas(part)
        for name in wanted.keys() - layers.keys():
            layers[name] = self.parts[part].get_submodule(name)
            adapt(layers[name])
        for name, layer in layers.items():
            put_on(layer, wanted.get(name, ()), in_place=in_place)


def _names(uses: Sequence[AdapterUse]) -> str:
    return " and ".join(repr(use.name) for use in uses)
