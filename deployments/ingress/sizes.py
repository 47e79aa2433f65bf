"""The size a client wants: one field `size`, or `width` and `height`."""

import re

from deployments.errors import InvalidRequest
from deployments.ingress.hints import shown

_SIZE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")


def wanted_size(
    size: str | None, width: int | None, height: int | None
) -> tuple[int | None, int | None]:
    """Width and height in pixels, None where the choice is the service's.

    Raises InvalidRequest for a size that is neither `auto` nor `WxH`, or not what width and height
    say.
    """
    if size is None or size == "auto":
        return width, height
    match = _SIZE.fullmatch(size)
    if match is None:
        raise InvalidRequest(
            f"size {shown(size)} is not understood; send 'auto' or WIDTHxHEIGHT in pixels, "
            "such as '512x512'",
            param="size",
        )
    sides = int(match[1]), int(match[2])
    for name, side, said in (("width", sides[0], width), ("height", sides[1], height)):
        if said is not None and said != side:
            raise InvalidRequest(
                f"{name} {shown(said)} and size {shown(size)} do not agree; send size, or width "
                "and height",
                param=name,
            )
    return sides
