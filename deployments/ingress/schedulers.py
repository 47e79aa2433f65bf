"""From what a client calls a sampler to the name that the model's card has for it.

Case, spaces, underscores and dashes do not matter, `ancestral` may be written for `a`, and `pp` for
`++`: `euler_ancestral` is `Euler a`, `dpmpp_2m_karras` is `DPM++ 2M Karras`.
"""

from collections.abc import Sequence

from deployments.errors import InvalidRequest
from deployments.ingress.hints import did_you_mean, listed, shown
from deployments.requests import ModelCard

_WITHOUT = str.maketrans({" ": None, "_": None, "-": None, "+": "p"})
_BROWNIAN = ("dpmppsde", "dpmsolversdescheduler", "cosinedpmsolver")
_LONG = ("Karras", "Exponential", "Beta", "Scheduler")
"""Names that end so are left out of the list in an error; it would be seventy names long."""


def scheduler_named(wanted: str, card: ModelCard) -> str:
    """The card's name for `wanted`, or `InvalidRequest` with what there is."""
    by_key = {_key(name): name for name in card.schedulers}
    key = _key(wanted)
    if key in by_key:
        return by_key[key]
    if key.startswith(_BROWNIAN):
        raise InvalidRequest(
            f"scheduler {shown(wanted)} is not offered: its noise is a Brownian tree over the "
            "whole run, so that no step can be taken by itself; the nearest is 'DPM++ 2M SDE'",
            param="scheduler",
        )
    raise InvalidRequest(
        f"scheduler {shown(wanted)} is not offered by {card.id!r}"
        f"{did_you_mean(wanted, card.schedulers)}; choose one of {_choices(card.schedulers)}",
        param="scheduler",
    )


def _key(name: str) -> str:
    return name.casefold().translate(_WITHOUT).replace("ancestral", "a")


def _choices(schedulers: Sequence[str]) -> str:
    short = [name for name in schedulers if not name.endswith(_LONG)]
    if not short:
        return listed(schedulers)
    return (
        f"{listed(short)}; most of them also with Karras, Exponential or Beta at the end, "
        "and all by the names of their diffusers classes"
    )
