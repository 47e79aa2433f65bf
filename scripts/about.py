"""What a benchmark ran on."""

from __future__ import annotations

import platform

import torch


def about_device(device: str) -> dict[str, str | int]:
    """Of `cpu` or `cuda`: which it is, and its name."""
    processor = f"CPU {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    name = torch.cuda.get_device_name() if device == "cuda" else processor
    return {"device": device, "device_name": name}
