"""Whether a model fits into what its replica may use, before it is read."""

from collections.abc import Mapping

import psutil
import torch

from deployments.diffusion.settings import DiffusionSettings

GIB = 2**30


def limit_memory(settings: DiffusionSettings, device: torch.device) -> None:
    """Holds this process to its share of the GPU: Ray's fractions are only bookkeeping."""
    if device.type == "cuda" and settings.memory_fraction < 1:
        torch.cuda.set_per_process_memory_fraction(settings.memory_fraction)


def allowed_bytes(settings: DiffusionSettings, device: torch.device) -> tuple[int, str]:
    """What the model may take, and of what, in words."""
    if device.type != "cuda":
        return psutil.virtual_memory().available, "of this machine's memory is free"
    free, total = torch.cuda.mem_get_info(device)
    share = int(total * settings.memory_fraction)
    return min(free, share), (
        f"may be used here: {settings.memory_fraction:g} of {total / GIB:.1f} GiB, of which "
        f"{free / GIB:.1f} are free"
    )


def check_fits(
    settings: DiffusionSettings,
    device: torch.device,
    weights: Mapping[str, int],
    allowed: int,
    words: str,
) -> None:
    """Raises ValueError: what the weights need at least, what is there, and the cure.

    `weights` counts each part's numbers.
    """
    needed = {name: count * _bytes_each(settings, device, name) for name, count in weights.items()}
    least = _on_device(settings, needed)
    if least <= allowed:
        return
    parts = ", ".join(f"{name} {bytes_ / GIB:.2f}" for name, bytes_ in needed.items())
    quantized = "" if settings.quantization == "none" else f", {settings.quantization}"
    offloaded = "" if settings.offload == "none" else f" with offload: {settings.offload}"
    raise ValueError(
        f"model {settings.id}: its weights need {least / GIB:.2f} GiB{offloaded} in "
        f"{settings.dtype}{quantized} ({parts}) and {allowed / GIB:.2f} GiB {words}; give the "
        f"replica more (num_gpus), choose {_smaller(device)}, or another model"
    )


def _bytes_each(settings: DiffusionSettings, device: torch.device, part: str) -> int:
    """Of a number in this part; quantized, as if all of its layers were.

    A model on the CPU is there whole before it is quantized.
    """
    others = part.startswith(("text_encoder", "vae"))
    if settings.quantization == "none" or others or device.type == "cpu":
        return _BYTES[settings.dtype]
    return 1


def _on_device(settings: DiffusionSettings, needed: Mapping[str, int]) -> int:
    """What is on the device at once."""
    match settings.offload:
        case "none":
            return sum(needed.values())
        case "model":
            return max(needed.values())
        case "group":
            return needed.get("vae", 0)
        case "sequential":
            return 0


def _smaller(device: torch.device) -> str:
    return "a smaller dtype" + (", quantization, offload" if device.type == "cuda" else "")


_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
