"""`<lora:NAME:SCALE>` in a prompt: which adapters it asks for, and what is left to be read.

`<lyco:...>`, which older versions of the web UI wanted for some kinds of files, is the same.

Knows text only. Any other tag stays in the prompt, as does what is no tag.
"""

import re

from deployments.errors import InvalidRequest
from deployments.ingress.hints import shown
from deployments.requests import AdapterWish

_TAG = re.compile(r"<(?:lora|lyco):([^<>]*)>")
_NUMBER = re.compile(r"\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
MAX_DIGITS = 40


def read_loras(prompt: str) -> tuple[str, tuple[AdapterWish, ...]]:
    """The prompt without its tags, and what they ask for, in order.

    Raises InvalidRequest for a tag that cannot be meant.
    """
    wishes = tuple(_wish(tag) for tag in _TAG.finditer(prompt))
    return (_TAG.sub("", prompt) if wishes else prompt), wishes


def _wish(tag: re.Match[str]) -> AdapterWish:
    name, *scales = tag[1].split(":")
    if not name.strip():
        raise _refused(tag, "names nothing")
    numbers = {_scale(tag, scale) for scale in scales}
    if len(scales) > 2 or len(numbers) > 1:
        raise _refused(tag, "has several scales, and a lora here has one for all that it changes")
    return AdapterWish(name.strip(), numbers.pop() if numbers else None)


def _scale(tag: re.Match[str], text: str) -> float:
    """The web UI also takes them by name: `te=` for text encoders and `unet=`."""
    number = text.strip().removeprefix("te=").removeprefix("unet=")
    if len(number) > MAX_DIGITS or not _NUMBER.fullmatch(number):
        raise _refused(tag, f"has {shown(text)} where a number belongs")
    return float(number)


def _refused(tag: re.Match[str], why: str) -> InvalidRequest:
    return InvalidRequest(
        f"prompt: {shown(tag[0])} {why}; write <lora:NAME:SCALE>, as <lora:ink:0.8>",
        param="prompt",
    )
