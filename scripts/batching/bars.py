"""What the engine has to reach against the baselines: ratios of one and the same run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

SHORT_P99_BARS = {"static_per_key": 8.0, "static_sjf": 5.0, "serve_batch_naive": 10.0}
"""How many times lower the p99 of 8-step jobs is than this system's."""
CEILING_BAR = 0.85
LOOP_BAR = 1.6
UNWATCHED_BAR, WATCHED_BAR = 0.98, 0.95
"""Of the throughput, that previews leave when nobody and when everybody asks for them."""


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio and the least that it should be."""

    name: str
    ratio: float
    least: float
    at_least: bool = False
    """The other system was cut off, so that its figure, and the ratio, are lower bounds."""

    @property
    def met(self) -> bool:
        """To two decimals: below saturation all systems that keep up deliver what arrives."""
        return round(self.ratio, 2) >= self.least


Figures = Mapping[str, Any]


def bars(
    at_bar_load: Mapping[str, Figures],
    saturation: Mapping[str, float],
    previews: Mapping[str, float],
) -> list[Bar]:
    """Those whose systems were measured; a short trace may have no 8-step job."""
    found = [*_of_saturation(saturation), *_of_previews(previews)]
    if "stepwise" in at_bar_load:
        found = [*_of_latency(at_bar_load), *_of_throughput(at_bar_load), *found]
    return found


def _of_latency(systems: Mapping[str, Figures]) -> Iterator[Bar]:
    ours = systems["stepwise"]
    compared = [("short_p99_s", "8-step", *bar) for bar in SHORT_P99_BARS.items()]
    compared.append(("p99_s", "all", "static_per_key", 1.0))
    for key, jobs, system, least in compared:
        if system in systems and ours[key] and systems[system][key]:
            yield Bar(
                name=f"p99 of {jobs} jobs, {system} / stepwise",
                ratio=systems[system][key] / ours[key],
                least=least,
                at_least=systems[system]["cut_off"],
            )


def _of_throughput(systems: Mapping[str, Figures]) -> Iterator[Bar]:
    others = {name: found["images_per_s"] for name, found in systems.items() if name != "stepwise"}
    if others:
        best = max(others, key=lambda name: others[name])
        yield Bar(
            name=f"images/s, stepwise / {best}, the best of the others",
            ratio=systems["stepwise"]["images_per_s"] / others[best],
            least=1.0,
        )


def _of_previews(previews: Mapping[str, float]) -> Iterator[Bar]:
    if previews:
        left = 1 - previews["unwatched_time_share"]
        yield Bar(name="previews, share left when nobody watches", ratio=left, least=UNWATCHED_BAR)
        left = previews["watched_throughput_share"]
        yield Bar(name="previews, share left when everybody does", ratio=left, least=WATCHED_BAR)


def _of_saturation(saturation: Mapping[str, float]) -> Iterator[Bar]:
    ours = saturation["stepwise_images_per_s"]
    ceiling = saturation["ceiling_images_per_s"]
    loop = saturation["diffusers_loop_images_per_s"]
    yield Bar(name="saturation, stepwise / ceiling", ratio=ours / ceiling, least=CEILING_BAR)
    yield Bar(name="saturation, stepwise / bare loop", ratio=ours / loop, least=LOOP_BAR)
