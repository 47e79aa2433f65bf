"""Room for adapters in a denoiser that will be compiled: it knows its shapes beforehand."""

import logging
from collections import defaultdict

from deployments.diffusion.adapters.files import adapter_file, read_adapter
from deployments.diffusion.families.family import Family
from deployments.diffusion.settings import DiffusionSettings
from deployments.errors import AdapterFailed

logger = logging.getLogger(__name__)


def prepare_adapters(family: Family, settings: DiffusionSettings) -> None:
    """Call before the denoiser is compiled. What cannot be used fails its rows only.

    To be compiled, every adapter is read once and each layer gets room for the largest
    `max_adapters` of them at once. An eager denoiser needs none.
    """
    ranks: defaultdict[str, list[int]] = defaultdict(list)
    for adapter in settings.adapters:
        try:
            if settings.compile_mode is None:
                adapter_file(adapter)
                continue
            loaded = read_adapter(adapter, family)
        except AdapterFailed:
            continue  # logged where the file was looked at
        for part in family.slots.denoiser_parts:
            for layer, delta in loaded.parts.get(part, {}).items():
                ranks[layer].append(delta.rank)
    if settings.compile_mode is not None and settings.adapters:
        room = {layer: sum(sorted(all_)[-settings.max_adapters :]) for layer, all_ in ranks.items()}
        family.slots.reserve(room)
        logger.info("model %s: room for adapters in %d layers", settings.id, len(room))
