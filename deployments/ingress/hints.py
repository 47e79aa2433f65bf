"""Words that error messages share: a value as it came, a list of choices, a likely intention."""

import difflib
import reprlib
from collections.abc import Iterable

MAX_SHOWN = 80
"""A value is quoted up to here, so that an error never repeats a large body."""


def shown(value: object) -> str:
    """The value, quoted if it is text, cut where it is long."""
    if isinstance(value, list | tuple | dict):
        text = reprlib.repr(value)  # a whole one may be megabytes
    else:
        text = repr(value[: MAX_SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def listed(choices: Iterable[str]) -> str:
    """The choices, as a list in a sentence."""
    return ", ".join(choices)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` when one of `known` is close to `word`, else nothing."""
    by_lower = {name.lower(): name for name in known}
    # The ratio is quadratic in the length; no name we know is longer than a few dozen characters.
    close = difflib.get_close_matches(word[:MAX_SHOWN].lower(), by_lower, n=1)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""
