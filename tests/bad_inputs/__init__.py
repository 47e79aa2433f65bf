"""Requests that must be refused, each with the answer it must get.

Written as data so that the same cases run against the app in-process and against a live service
of any model: no case depends on a card, only on what no card allows.
"""

from tests.bad_inputs import (
    automatic1111,
    bodies,
    fields,
    forms,
    headers,
    huggingface,
    jobs,
    pictures,
    superlabs,
    variations,
)
from tests.bad_inputs.case import (
    EDITS,
    GENERATIONS,
    JSON,
    MULTIPART,
    BadInput,
    form,
    part,
)

__all__ = ["BAD_INPUTS", "EDITS", "GENERATIONS", "JSON", "MULTIPART", "BadInput", "form", "part"]

BAD_INPUTS: list[BadInput] = [
    *fields.TYPES,
    *fields.VALUES,
    *fields.FIELDS,
    *bodies.BODIES,
    *forms.FORMS,
    *forms.HEADS,
    *forms.WRITTEN,
    *pictures.JSON_EDITS,
    *pictures.PICTURES,
    *variations.VARIATIONS,
    *headers.KINDS,
    *headers.ACCEPTED,
    *headers.PAGES,
    *headers.ADDRESSES,
    *headers.FILES,
    *jobs.IDS,
    *jobs.FIELDS,
    *jobs.BODIES,
    *jobs.LOST,
    *automatic1111.TEXTS,
    *automatic1111.IMAGES,
    *automatic1111.OTHERS,
    *huggingface.TASKS,
    *huggingface.BODIES,
    *superlabs.OPTIONS,
    *superlabs.MESSAGES,
    *superlabs.URLENCODED,
    *superlabs.FILES,
]
"""Every case; names are unique within a path."""
