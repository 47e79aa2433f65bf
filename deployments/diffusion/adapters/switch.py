"""Puts a batch's adapters on the denoiser before it steps, and knows what a change costs."""

import logging
from collections.abc import Callable, Sequence

from deployments.diffusion.adapters.slots import Slots
from deployments.diffusion.adapters.weights import AdapterSet
from deployments.diffusion.faults import no_memory_for
from deployments.diffusion.isolation import Fault, Outcome, isolate
from deployments.requests import AdapterUse

logger = logging.getLogger(__name__)


class Switch:
    """Over a model's slots."""

    def __init__(self, slots: Slots, clock: Callable[[], float]) -> None:
        self._slots = slots
        self._clock = clock
        self._cost_s = 0.0
        self.switches = 0
        """How often the denoiser's adapters changed."""

    def put_on(self, adapters: AdapterSet) -> Outcome[AdapterSet]:
        """The denoiser acts with these from now on, or says why it cannot.

        Where memory runs out, all that acts on any part of the model is taken off before.
        """
        outcome = isolate([adapters], self._to)
        if not outcome.out_of_memory:
            return outcome
        logger.warning("out of memory: all adapters are taken off before %s", adapters.uses)
        self._slots.take_off()
        outcome = isolate([adapters], self._to)
        if not outcome.out_of_memory:
            return outcome
        error = no_memory_for(adapters.uses)
        return Outcome([Fault(adapters, error, fault.trace) for fault in outcome.faults])

    def _to(self, only: Sequence[AdapterSet]) -> None:
        [adapters] = only
        begun_s = self._clock()
        if not self._slots.wear(adapters):
            return
        took_s = self._clock() - begun_s
        # The first is all that is known; later ones count half, since one may meet a busy machine.
        self._cost_s = (self._cost_s + took_s) / 2 if self.switches else took_s
        self.switches += 1

    def cost_s(self, uses: tuple[AdapterUse, ...]) -> float:
        """Seconds that a change to these would take now, as the last ones did; 0 before any."""
        return 0.0 if self._slots.wears(uses) else self._cost_s
