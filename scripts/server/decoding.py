"""From the bytes of a request to its typed fields: our decoder, and pydantic's of the same."""

from __future__ import annotations

import timeit
from collections.abc import Mapping
from statistics import median
from typing import Any

import msgspec

from deployments.ingress.bodies import decode_json
from deployments.ingress.openai.fields import GenerationFields

from .client import body_of_json
from .figures import DecodeFigures
from .typed import model_of

CALLS = {"msgspec": "decode_json(body, decoder)", "pydantic": "model.model_validate_json(body)"}


def measure(wish: Mapping[str, Any], *, batches: int, per_batch: int) -> DecodeFigures:
    """Medians over batches, which take turns."""
    names = {
        "decode_json": decode_json,
        "body": body_of_json(wish),
        "decoder": msgspec.json.Decoder(GenerationFields),
        "model": model_of(GenerationFields),
    }
    seconds = [
        {name: timeit.timeit(call, globals=names, number=per_batch) for name, call in CALLS.items()}
        for _ in range(batches)
    ]
    us = {name: 1e6 * median(batch[name] for batch in seconds) / per_batch for name in CALLS}
    return DecodeFigures(**us)
