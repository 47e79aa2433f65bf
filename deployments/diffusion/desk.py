"""The desk: a row arrives, and everything that its request alone decides is settled.

It knows no queue and no device: a sampler's table and a seed's noise are made on the CPU.
"""

from deployments.diffusion.adapters.shelf import AdapterShelf
from deployments.diffusion.families.family import Family, Size
from deployments.diffusion.noise import draw_noise
from deployments.diffusion.prompts import read_prompts
from deployments.diffusion.run import BatchKey, Run, Ticket
from deployments.diffusion.sampling import StepTable, StepTables
from deployments.requests import PreparedImage, Row


class Desk:
    """Turns rows into runs of one model: `settle`, `put_on_adapters`, `draw_noise`, in order."""

    def __init__(self, family: Family, unit: Size, *, max_chunks: int, shelf: AdapterShelf) -> None:
        """`unit` is the size whose lane costs 1; `max_chunks` as for `read_prompts`."""
        self._family = family
        self._shelf = shelf
        self._max_chunks = max_chunks
        self._unit = unit[0] * unit[1]
        self._tables = StepTables(family.scheduler_config, family.samplers)

    def settle(self, row: Row, prepared: PreparedImage | None, ticket: Ticket) -> Run:
        """The run of a row, whose key counts every adapter as one that changes the denoiser.

        Raises UnsupportedScheduler.
        """
        factor = self._family.latent_factor
        text = read_prompts(row, self._family, self._max_chunks)
        return Run(
            row=row,
            prepared=prepared,
            text=text,
            key=BatchKey(row.height // factor, row.width // factor, len(text.prompt), row.adapters),
            table=self._table(row, inpaints=_inpaints(prepared)),
            area=row.width * row.height / self._unit,
            ticket=ticket,
            guidance_scale=row.guidance_scale if self._family.has_second_lane else 1.0,
        )

    def put_on_adapters(self, run: Run) -> str | None:
        """The run gets its adapters; or the name of one that must be read before, to try again.

        Raises AdapterFailed.
        """
        for use in run.row.adapters[len(run.adapters.uses) :]:
            loaded = self._shelf.find(use.name)
            if loaded is None:
                return use.name
            run.adapters = run.adapters.plus(use, loaded)
        slots = self._family.slots
        slots.check(run.adapters)
        run.key = run.key._replace(adapters=run.adapters.touching(slots.denoiser_parts))
        return None

    def draw_noise(self, run: Run) -> None:
        """What its seed gives."""
        row, inpaints = run.row, _inpaints(run.prepared)
        random = self._family.encoder_is_random
        # The pipelines do not encode what an inpainting model repaints from pure noise.
        unread = self._family.sees_image and inpaints and row.strength == 1.0
        run.noise = draw_noise(
            row.seed,
            (self._family.latent_channels, run.key.latent_height, run.key.latent_width),
            run.table,
            encodes=random and run.prepared is not None and not unread,
            inpaints=random and inpaints,
        )

    def _table(self, row: Row, *, inpaints: bool) -> StepTable:
        flow = self._family.flow_shift((row.width, row.height))
        if row.strength is None:
            return self._tables.text_to_image(row.scheduler, row.num_inference_steps, flow)
        return self._tables.image_to_image(
            row.scheduler, row.num_inference_steps, row.strength, inpaint=inpaints, flow=flow
        )


def _inpaints(prepared: PreparedImage | None) -> bool:
    return prepared is not None and prepared.mask is not None
