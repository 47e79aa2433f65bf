"""Puts a batch's adapters on the denoiser before it steps, and knows what a change costs."""

from collections.abc import Callable

from deployments.diffusion.adapters.slots import Slots
from deployments.diffusion.adapters.weights import AdapterSet
from deployments.requests import AdapterUse


class Switch:
    """Over a model's slots."""

    def __init__(self, slots: Slots, clock: Callable[[], float]) -> None:
        self._slots = slots
        self._clock = clock
        self._cost_s = 0.0
        self.switches = 0
        """How often the denoiser's adapters changed."""

    def to(self, adapters: AdapterSet) -> None:
        """The denoiser acts with these from now on. Raises when memory runs out."""
        begun_s = self._clock()
        if not self._slots.wear(adapters):
            return
        took_s = self._clock() - begun_s
        # The first is all that is known; later ones count half, since one may meet a busy machine.
        self._cost_s = (self._cost_s + took_s) / 2 if self.switches else took_s
        self.switches += 1

    def take_off(self) -> None:
        """Nothing acts on any part of the model from now on, text encoders included."""
        self._slots.take_off()

    def cost_s(self, uses: tuple[AdapterUse, ...]) -> float:
        """Seconds that a change to these would take now, as the last ones did; 0 before any."""
        return 0.0 if self._slots.wears(uses) else self._cost_s
