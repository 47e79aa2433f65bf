"""What the service has to reach: ratios of one and the same run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from .figures import DecodeFigures, HttpFigures, SaturatedFigures

LATENCY_BAR = 1.15
HEALTHZ_BAR = 20.0
DECODE_BAR = 5.0


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio and what it should be at least, or at most."""

    name: str
    ratio: float
    bar: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        return self.ratio <= self.bar if self.at_most else self.ratio >= self.bar


def bars(
    http: Mapping[str, HttpFigures],
    saturated: Mapping[str, SaturatedFigures],
    decode: DecodeFigures | None,
) -> Iterator[Bar]:
    """Those of what was measured."""
    if http:
        yield Bar(
            name="latency at p50, stepwise / serve_echo",
            ratio=http["stepwise"].p50_ms / http["serve_echo"].p50_ms,
            bar=LATENCY_BAR,
            at_most=True,
        )
    if saturated:
        theirs, ours = saturated["async_def"], saturated["stepwise"]
        yield Bar(
            name="/healthz p99 while saturated, async_def / stepwise",
            ratio=theirs.healthz_p99_ms / ours.healthz_p99_ms,
            bar=HEALTHZ_BAR,
        )
    if decode is not None:
        yield Bar(
            name="decoding a request, pydantic / msgspec",
            ratio=decode.pydantic / decode.msgspec,
            bar=DECODE_BAR,
        )
