"""How long a replica that is told to stop may need, against the time that Serve gives it.

What waits is bounded in the config, by `max_queue_s`. What one row may take depends on the device:
it is known when a step has been measured, so that it is checked when a replica starts.
"""

import logging

from deployments.diffusion.capacity import Capacity
from deployments.diffusion.settings import DiffusionSettings
from deployments.requests import ModelCard

logger = logging.getLogger(__name__)

CALLS_PER_STEP = 2
"""Model calls of the samplers that take most, as Heun."""


def longest_row_s(card: ModelCard, capacity: Capacity) -> float:
    """Seconds of the longest row that the card allows, in a full batch, or alone if it is wider."""
    pixels = max((width * height for width, height in card.sizes), default=card.max_side**2)
    area = pixels / (card.default_width * card.default_height)
    lanes = max(capacity.full, capacity.lanes_of_row * area)
    return CALLS_PER_STEP * card.max_steps * capacity.curve.step_at(lanes)


def check_grace(settings: DiffusionSettings, longest_s: float, grace_s: float) -> None:
    """Logs a warning where `grace_s` may end before the rows do, with all figures and the cure.

    No error: a step is slow also where something else is busy, and the model can be served.
    """
    waiting_s = max(settings.max_queue_s, longest_s)  # a row alone may wait, however long it is
    if grace_s > waiting_s + longest_s:
        return
    logger.warning(
        "model %s: graceful_shutdown_timeout_s is %g: told to stop, this replica may need %.0f s, "
        "%.0f s for what waits (max_queue_s is %g) and %.0f s for the longest row (max_steps is "
        "%d), as measured here; set it above that, or lower max_steps or max_queue_s",
        settings.id, grace_s, waiting_s + longest_s, waiting_s, settings.max_queue_s, longest_s,
        settings.max_steps,
    )  # fmt: skip
