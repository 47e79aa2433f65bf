"""The desk: a row arrives, and everything that its request alone decides is settled.

It knows no queue and no device: a sampler's table and a seed's noise are made on the CPU.
"""

from collections.abc import Callable

from deployments.diffusion.adapters.shelf import AdapterShelf
from deployments.diffusion.families.family import Family, Size
from deployments.diffusion.noise import draw_noise
from deployments.diffusion.prompts import read_prompts
from deployments.diffusion.run import BatchKey, Run, Ticket
from deployments.diffusion.sampling import StepTable, StepTables
from deployments.requests import PreparedImage, Row


class Desk:
    """Turns rows into runs of one model."""

    def __init__(self, family: Family, unit: Size, *, max_chunks: int, shelf: AdapterShelf) -> None:
        """`unit` is the size whose lane costs 1; `max_chunks` as for `read_prompts`."""
        self._family = family
        self._shelf = shelf
        self._max_chunks = max_chunks
        self._unit = unit[0] * unit[1]
        self._tables = StepTables(family.scheduler_config, family.samplers)

    def settle(
        self,
        row: Row,
        prepared: PreparedImage | None,
        ticket: Ticket,
        check_room: Callable[[Run], None],
    ) -> Run:
        """The run of a row. `check_room` may refuse it before its noise is drawn.

        Raises UnsupportedScheduler, AdapterFailed, and whatever `check_room` raises.
        """
        factor = self._family.latent_factor
        cells = (row.height // factor, row.width // factor)
        text = read_prompts(row, self._family, self._max_chunks)
        inpaints = prepared is not None and prepared.mask is not None
        adapters = self._shelf.take(row.adapters)
        on_denoiser = adapters.touching(self._family.slots.denoiser_parts)
        run = Run(
            row=row,
            prepared=prepared,
            text=text,
            key=BatchKey(*cells, text_chunks=len(text.prompt), adapters=on_denoiser),
            table=self._table(row, inpaints=inpaints),
            area=row.width * row.height / self._unit,
            ticket=ticket,
            guidance_scale=row.guidance_scale if self._family.has_second_lane else 1.0,
            adapters=adapters,
        )
        check_room(run)
        random = self._family.encoder_is_random
        # The pipelines do not encode what an inpainting model repaints from pure noise.
        unread = self._family.sees_image and inpaints and row.strength == 1.0
        run.noise = draw_noise(
            row.seed,
            (self._family.latent_channels, *cells),
            run.table,
            encodes=random and prepared is not None and not unread,
            inpaints=random and inpaints,
        )
        return run

    def _table(self, row: Row, *, inpaints: bool) -> StepTable:
        flow = self._family.flow_shift((row.width, row.height))
        if row.strength is None:
            return self._tables.text_to_image(row.scheduler, row.num_inference_steps, flow)
        return self._tables.image_to_image(
            row.scheduler, row.num_inference_steps, row.strength, inpaint=inpaints, flow=flow
        )
