"""Deployments for test_dispatch.py: in a module of their own, which a replica can import."""

import os
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.dispatch import Dispatcher
from deployments.requests import GenerationRequest, ImageResult, Progress, Row
from tests.rows import make_result, make_row

REQUEST = GenerationRequest(rows=(replace(make_row(), model="moody"),))


class Moody:
    """Raises what it is told to, in turn, and then paints."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.offers = 0

    def expect(self, errors: list[Exception]) -> None:
        self.errors, self.offers = errors, 0

    def offered(self) -> int:
        return self.offers

    def generate(self, row: Row, prepared: Any) -> ImageResult:
        self.offers += 1
        if self.errors:
            raise self.errors.pop(0)
        return make_result(row.id)

    async def generate_with_progress(
        self, row: Row, prepared: Any, *, previews: int
    ) -> AsyncGenerator[Progress | ImageResult]:
        yield self.generate(row, prepared)


class Deadly:
    """Dies under the first rows that it is offered; counts them in a file, which outlives it."""

    def __init__(self, offers: Path, deaths: int) -> None:
        self.offers, self.deaths = offers, deaths

    def generate(self, row: Row, prepared: Any) -> ImageResult:
        with self.offers.open("a") as file:
            file.write("x")
        if len(self.offers.read_text()) <= self.deaths:
            os._exit(1)
        return make_result(row.id)

    async def generate_with_progress(
        self, row: Row, prepared: Any, *, previews: int
    ) -> AsyncGenerator[Progress | ImageResult]:
        for call in range(3):
            yield Progress(
                row_id=row.id, state="running", call=call, calls=3, queue_position=0, eta_s=0.0
            )
        yield self.generate(row, prepared)


class Asks:
    """A dispatcher where it lives: inside of a replica."""

    def __init__(self, moody: DeploymentHandle[Any]) -> None:
        self.moody = moody
        self.dispatcher = Dispatcher({"moody": moody}, moody)

    async def told(self) -> list[Progress | ImageResult]:
        return [each async for each in self.dispatcher.watch(REQUEST, previews=3)]

    async def generate(self) -> list[ImageResult]:
        return await self.dispatcher.generate(REQUEST)

    async def offers(self, errors: list[Exception], patience_s: float | None) -> int:
        await self.moody.expect.remote(errors)
        if patience_s is None:
            await self.dispatcher.generate(REQUEST)
        else:
            told = self.dispatcher.watch(REQUEST, previews=0, patience_s=patience_s)
            assert [each async for each in told] == [make_result(REQUEST.rows[0].id)]
        offered: int = await self.moody.offered.remote()
        return offered
