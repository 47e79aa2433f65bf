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
    settings: DiffusionSettings, weights: Mapping[str, int], allowed: int, words: str
) -> None:
    """Raises ValueError: what the weights need, what is there, and the cure.

    `weights` counts each part's numbers. With offload only the largest part is on the device.
    """
    needed = {name: count * _BYTES[settings.dtype] for name, count in weights.items()}
    whole = sum(needed.values())
    if whole <= allowed:
        return
    parts = ", ".join(f"{name} {bytes_ / GIB:.2f}" for name, bytes_ in needed.items())
    raise ValueError(
        f"model {settings.id}: its weights need {whole / GIB:.2f} GiB in {settings.dtype} "
        f"({parts}) and {allowed / GIB:.2f} GiB {words}; give the replica more (num_gpus), choose "
        "a smaller dtype, or another model"
    )


_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
