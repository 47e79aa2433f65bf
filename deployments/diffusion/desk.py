"""The desk: a row arrives, and everything that its request alone decides is settled.

It knows no queue and no device: a sampler's table and a seed's noise are made on the CPU.
"""

from collections.abc import Callable
from concurrent.futures import Future

from deployments.diffusion.families.family import Family
from deployments.diffusion.noise import draw_noise
from deployments.diffusion.run import BatchKey, Run
from deployments.diffusion.sampling import StepTable, StepTables
from deployments.requests import ImageResult, PreparedImage, Row


class Desk:
    """Turns rows into runs of one model."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._tables = StepTables(family.scheduler_config)

    def settle(
        self,
        row: Row,
        prepared: PreparedImage | None,
        now_s: float,
        future: Future[ImageResult],
        check_room: Callable[[int, float], None],
    ) -> Run:
        """The run of a row. `check_room(calls, weight)` may refuse it before its noise is drawn.

        Raises UnsupportedScheduler, and whatever `check_room` raises.
        """
        factor = self._family.latent_factor
        key = BatchKey(row.height // factor, row.width // factor)
        native = self._family.native_side // factor
        inpaints = prepared is not None and prepared.mask is not None
        run = Run(
            row=row,
            prepared=prepared,
            key=key,
            table=self._table(row, inpaints=inpaints),
            area=key.latent_height * key.latent_width / native**2,
            submitted_s=now_s,
            future=future,
        )
        check_room(run.calls_left, run.weight)
        run.noise = draw_noise(
            row.seed,
            (self._family.latent_channels, *key),
            run.table,
            encodes=prepared is not None and self._family.encoder_is_random,
            inpaints=inpaints,
        )
        return run

    def _table(self, row: Row, *, inpaints: bool) -> StepTable:
        if row.strength is None:
            return self._tables.text_to_image(row.scheduler, row.num_inference_steps)
        return self._tables.image_to_image(
            row.scheduler, row.num_inference_steps, row.strength, inpaint=inpaints
        )
