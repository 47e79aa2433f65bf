"""`offload`: which parts of a pipeline are on the device, and when."""

from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers import AutoencoderTiny

from deployments.diffusion.settings import Offload

HOST = torch.device("cpu")


def place(pipeline: Any, offload: Offload, device: torch.device) -> None:
    """Puts the pipeline where it will run, or has its parts moved there when they are used."""
    match offload:
        case "none":
            pipeline.to(device)
        case "model":
            one_part_at_a_time(pipeline, device)
        case "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
        case "group":
            layers_ahead_of_use(pipeline, device)


def layers_ahead_of_use(pipeline: Any, device: torch.device) -> None:
    """Layers are copied over while the one before them runs.

    The autoencoder stays on the device: it is small, and encodes and decodes by turns, where the
    order of use that is learnt in the first run would be wrong.
    """
    pipeline.enable_group_offload(
        onload_device=device,
        offload_device=HOST,
        offload_type="leaf_level",
        use_stream=device.type == "cuda",
        exclude_modules="vae",
    )


def one_part_at_a_time(pipeline: Any, device: torch.device) -> None:
    """A part that is used moves to the device, and what is there moves off it.

    diffusers' own hooks go by the order of a pipeline call and would leave all parts on the device:
    in a running batch texts are read between steps. A tiny autoencoder stays: it is a few MB, and
    previews would fetch it between steps.
    """
    room = _Room(device)
    for part in pipeline.components.values():
        if isinstance(part, AutoencoderTiny):
            part.to(device)
        elif isinstance(part, torch.nn.Module):
            part.to(HOST)
            add_hook_to_module(part, _Entering(room))


class _Room:
    """The device, where there is room for one part."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._inside: torch.nn.Module | None = None

    def enter(self, part: torch.nn.Module) -> None:
        """Raises what moving raises, as OutOfMemoryError; the part is then on the host."""
        if part is self._inside:
            return
        leaving, self._inside = self._inside, None
        if leaving is not None:
            leaving.to(HOST)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()  # or the freed blocks may not fit what comes
        try:
            part.to(self._device)
        except Exception:
            part.to(HOST)  # of which some is on the device
            raise
        self._inside = part


class _Entering(ModelHook):  # type: ignore[misc]
    """accelerate's hook before a part runs; diffusers calls it before `encode` and `decode` too."""

    def __init__(self, room: _Room) -> None:
        self._room = room

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Called with what the part is called with, which is on the device already."""
        self._room.enter(module)
        return args, kwargs
