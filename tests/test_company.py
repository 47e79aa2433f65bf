"""Whatever runs beside a row, joins or leaves, its picture is its own."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.diffusion.families.family import Family
from deployments.diffusion.samplers import SAMPLERS
from deployments.requests import PreparedImage, Row
from tests.driving import drive, driven, pixels, wait_until_waiting
from tests.rows import make_prepared, make_row

SOME_SAMPLERS = ("Euler a", "DPM++ 2M Karras", "UniPC", "Heun", "PLMS", "LCM", "DPM2 a", "DDIM")


def unlike_rows(count: int) -> list[tuple[Row, PreparedImage | None]]:
    """Rows that differ in everything a row may differ in."""
    rows = []
    for seed in range(count):
        prepared = make_prepared(seed, masked=seed % 2 == 0) if seed % 3 == 2 else None
        row = make_row(
            seed=seed,
            prompt=f"house number {seed}",
            negative_prompt="blurred" if seed % 2 else "",
            num_inference_steps=4 + seed % 7,
            scheduler=SOME_SAMPLERS[seed % len(SOME_SAMPLERS)],
            guidance_scale=(1.0, 3.0, 7.5)[seed % 3],
            guidance_rescale=0.5 * (seed % 2),
            guidance_end=(1.0, 0.5)[seed % 2],
            strength=0.4 + 0.03 * seed if prepared else None,
        )
        rows.append((row, prepared))
    return rows


def alone(
    family: Family, wanted: Sequence[tuple[Row, PreparedImage | None]], **settings: Any
) -> list[Any]:
    """Their pictures, one after the other."""
    pictures = []
    with driven(family, **settings) as engine:
        for row, prepared in wanted:
            future = engine.submit(row, prepared)
            drive(engine, [future])
            pictures.append(pixels(future.result()))
        assert engine.stats().max_rows == 1
    return pictures


@pytest.mark.parametrize("strict", [False, True])
def test_sixteen_rows_that_differ_in_everything_share_a_batch(
    tiny_family: Family, strict: bool
) -> None:
    assert set(SOME_SAMPLERS) <= set(SAMPLERS)
    wanted = unlike_rows(16)
    options: dict[str, Any] = {"strict": strict, "lane_buckets": (1, 2, 4, 8, 16, 32)}
    with driven(tiny_family, **options) as engine:
        futures = [engine.submit(row, prepared) for row, prepared in wanted]
        wait_until_waiting(engine, 16)
        drive(engine, futures)
        assert engine.stats().max_rows == 16
    furthest = 0 if strict else 1
    for future, picture in zip(futures, alone(tiny_family, wanted, **options), strict=True):
        assert np.abs(pixels(future.result()) - picture).max() <= furthest


def test_strict_is_exact_in_the_latents_too(
    tiny_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[bytes, int] = {}
    decode = tiny_family.decode

    def record(latents: torch.Tensor) -> torch.Tensor:
        assert len(latents) == 1
        key = latents.numpy().tobytes()
        seen[key] = seen.get(key, 0) + 1
        return decode(latents)

    monkeypatch.setattr(tiny_family, "decode", record)
    wanted = unlike_rows(6)
    with driven(tiny_family, strict=True) as engine:
        futures = [engine.submit(row, prepared) for row, prepared in wanted]
        wait_until_waiting(engine, 6)
        drive(engine, futures)
    alone(tiny_family, wanted, strict=True)
    assert sorted(seen.values()) == [2] * 6, "the same bits twice for each row"


class Pooled(NamedTuple):
    """A row and the pictures it makes alone: as it is, and under `strict`."""

    row: Row
    prepared: PreparedImage | None
    alone: Any
    strictly: Any


@pytest.fixture(scope="module")
def pool(tiny_family: Family) -> list[Pooled]:
    """Eight rows that differ in everything."""
    wanted = unlike_rows(8)
    loose = alone(tiny_family, wanted)
    exact = alone(tiny_family, wanted, strict=True)
    return [
        Pooled(row, prepared, alone, strictly)
        for (row, prepared), alone, strictly in zip(wanted, loose, exact, strict=True)
    ]


MOVES = st.lists(
    st.tuples(st.sampled_from(["join", "step", "cancel"]), st.integers(0, 7)),
    min_size=4,
    max_size=24,
)


@settings(max_examples=25)
@given(moves=MOVES, strict=st.booleans())
def test_rows_join_and_leave_at_random(
    tiny_family: Family,
    pool: list[Pooled],
    moves: list[tuple[str, int]],
    strict: bool,
) -> None:
    waited_for: list[tuple[int, Any]] = []
    with driven(tiny_family, strict=strict, lane_buckets=(1, 2, 4, 8)) as engine:
        for move, number in moves:
            if move == "join":
                waited_for.append((number, engine.submit(pool[number].row, pool[number].prepared)))
            elif move == "step":
                engine.step()
            elif waited_for:
                waited_for[number % len(waited_for)][1].cancel()
        stay = [(number, future) for number, future in waited_for if not future.cancelled()]
        drive(engine, [future for _, future in stay])
        assert engine.stats().lane_steps <= 8 * engine.stats().steps
    for number, future in stay:
        picture = pool[number].strictly if strict else pool[number].alone
        difference = np.abs(pixels(future.result()) - picture).max()
        assert difference <= (0 if strict else 1)
