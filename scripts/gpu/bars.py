"""What the engine has to reach on one H100."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from .plan import MODES

Found = Mapping[str, Mapping[str, float]]
"""Row name -> its figures."""


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A figure, and what it should be at least, or at most."""

    name: str
    value: float | None
    """None where its rows were not measured."""
    row: str
    """Where the figure is from; of several modes, the best."""
    bar: float
    at_most: bool = False

    def verdict(self, *, applies: bool) -> str:
        """`applies`: the device and the models are those that the bars were set for."""
        if not applies:
            return "not on this device"
        if self.value is None:
            return "not measured"
        met = self.value <= self.bar if self.at_most else self.value >= self.bar
        return "met" if met else "NOT MET"


def bars(found: Found) -> Iterator[Bar]:
    """All of them, whatever was measured."""
    engines = {model: _best(found, model, quantized=False) for model in ("sd15", "sdxl", "flux")}
    yield _rate("SD 1.5, images/s", found, engines["sd15"], 10.0)
    yield Bar(
        name="SD 1.5, engine / eager diffusers loop",
        value=_ratio(found, engines["sd15"], "sd15/loop"),
        row=engines["sd15"],
        bar=6.0,
    )
    yield _rate("SDXL, images/s", found, engines["sdxl"], 1.3)
    quantized = _best(found, "sdxl", quantized=True)
    yield _rate("SDXL quantized, images/s", found, quantized, 1.64)
    yield _rate("SDXL quantized, images/s, stretch", found, quantized, 2.26)
    alone = min(
        _measured(found, "flux/alone", quantized=False),
        key=lambda name: found[name]["p50_s"],
        default="",
    )
    flux_s = found[alone]["p50_s"] if alone else None
    yield Bar(name="FLUX.1 dev, seconds a picture", value=flux_s, row=alone, bar=4.5, at_most=True)
    for model, row in engines.items():
        yield Bar(
            name=f"{model}, share of time without a kernel",
            value=found[row].get("no_kernel_share") if row else None,
            row=row,
            bar=0.03,
            at_most=True,
        )


def _best(found: Found, model: str, *, quantized: bool) -> str:
    """The engine's fastest row of the modes that quantize, or of the others; empty without one."""
    measured = _measured(found, f"{model}/engine", quantized=quantized)
    return max(measured, key=lambda name: found[name]["images_per_s"], default="")


def _measured(found: Found, rows: str, *, quantized: bool) -> list[str]:
    """The rows of these modes that have figures."""
    names = [f"{rows}/{mode}" for mode in MODES if is_quantized(mode) == quantized]
    return [name for name in names if found.get(name)]


def is_quantized(mode: str) -> bool:
    """Whether the denoiser's weights are in fewer bits in this mode."""
    return "quantization" in MODES[mode]


def _rate(name: str, found: Found, row: str, bar: float) -> Bar:
    value = found[row]["images_per_s"] if row else None
    return Bar(name=name, value=value, row=row, bar=bar)


def _ratio(found: Found, row: str, baseline: str) -> float | None:
    if not row or not found.get(baseline):
        return None
    return found[row]["images_per_s"] / found[baseline]["images_per_s"]
