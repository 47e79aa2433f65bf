"""From the adapters that a client names to those of the model's card, each with its scale.

`loras` on the wire, which is what most services call them.
"""

from collections.abc import Sequence

from deployments.errors import InvalidRequest
from deployments.ingress.hints import did_you_mean, listed, shown
from deployments.requests import MAX_ADAPTER_SCALE, AdapterUse, AdapterWish, ModelCard


def settled_adapters(wishes: Sequence[AdapterWish], card: ModelCard) -> tuple[AdapterUse, ...]:
    """What acts on the row: by name, since their order changes nothing, and none at scale 0."""
    uses = [_settled(wish, card) for wish in wishes]
    names = [use.name for use in uses]
    for name in names:
        if names.count(name) > 1:
            raise _refused(f"lora {name!r} is named twice; name it once, with one scale")
    if len(uses) > card.max_adapters:
        raise _refused(
            f"loras has {len(uses)} entries, and {card.id!r} takes at most {card.max_adapters} "
            "at once; leave some out"
        )
    return tuple(sorted((use for use in uses if use.scale), key=lambda use: use.name))


def _settled(wish: AdapterWish, card: ModelCard) -> AdapterUse:
    by_key = {offered.name.casefold(): offered for offered in card.adapters}
    offered = by_key.get(wish.name.casefold())
    if offered is None:
        names = [each.name for each in card.adapters]
        there = f"choose one of {listed(names)}" if names else "it has none; leave it out"
        raise _refused(
            f"lora {shown(wish.name)} is not offered by {card.id!r}"
            f"{did_you_mean(wish.name, names)}; {there}"
        )
    scale = offered.scale if wish.scale is None else float(wish.scale)
    # NaN fails this comparison too.
    if not abs(scale) <= MAX_ADAPTER_SCALE:
        raise _refused(
            f"lora {offered.name!r}: scale must be a number from {-MAX_ADAPTER_SCALE:g} to "
            f"{MAX_ADAPTER_SCALE:g}, got {scale}"
        )
    return AdapterUse(offered.name, scale)


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="loras")
