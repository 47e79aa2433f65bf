"""Files inside JSON: base64, bare or as a data URL."""

import binascii
import re

from deployments.errors import InvalidRequest
from deployments.ingress.hints import shown

_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]{0,20}://", re.IGNORECASE)


def inline_file(text: str, *, param: str) -> bytes:
    """The bytes of a file that came as text. Takes about a millisecond for each megabyte."""
    if _REMOTE.match(text):
        raise InvalidRequest(
            f"{param} is the address {shown(text)}, and none is fetched; send the picture itself, "
            "as base64 or as a data URL",
            param=param,
        )
    prefix = _DATA_URL.match(text)
    try:
        return binascii.a2b_base64(text[prefix.end() :] if prefix else text, strict_mode=True)
    except ValueError as error:  # binascii.Error is one; so is what text beyond ASCII raises
        raise InvalidRequest(
            f"{param} is not base64 ({error}): it begins with {shown(text[:40])}; send the file "
            "as base64, bare or as a data URL",
            param=param,
        ) from None
