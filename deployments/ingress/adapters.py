"""From the adapters that a client names to those of the model's card, each with its scale.

`loras` on the wire, which is what most services call them.
"""

from collections.abc import Sequence

from deployments.errors import InvalidRequest
from deployments.ingress.hints import did_you_mean, listed, shown
from deployments.requests import MAX_ADAPTER_SCALE, AdapterUse, AdapterWish, ModelCard


def settled_adapters(wishes: Sequence[AdapterWish], card: ModelCard) -> tuple[AdapterUse, ...]:
    """What acts on the row: by name, since their order changes nothing, and none at scale 0."""
    acting = sum(wish.scale != 0 for wish in wishes)
    if card.adapters and acting > card.max_adapters:
        raise _refused(
            f"loras: {acting} adapters are named, and {card.id!r} takes at most "
            f"{card.max_adapters} at once; leave some out"
        )
    by_key = {offered.name.casefold(): offered for offered in card.adapters}
    uses: dict[str, AdapterUse] = {}
    for wish in wishes:  # ends early: after each of the model's, the next is unknown or the second
        use = _settled(wish, by_key.get(wish.name.casefold()), card)
        if use.name in uses:
            raise _refused(f"lora {use.name!r} is named twice; name it once, with one scale")
        uses[use.name] = use
    return tuple(uses[name] for name in sorted(uses) if uses[name].scale)


def _settled(wish: AdapterWish, offered: AdapterUse | None, card: ModelCard) -> AdapterUse:
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
