"""The pydantic model that is equivalent to a msgspec struct, field by field."""

from __future__ import annotations

from typing import Any

import msgspec
import pydantic

CONFIG = pydantic.ConfigDict(extra="forbid", frozen=True)


def model_of(struct: type[msgspec.Struct]) -> type[pydantic.BaseModel]:
    """The same names, types and defaults; unknown fields are refused by both.

    What msgspec leaves undecoded for later, pydantic decodes at once, as anything.
    """
    fields: dict[str, Any] = {
        field.encode_name: (Any, None)
        if field.type is msgspec.Raw
        else (field.type, ... if field.required else field.default)
        for field in msgspec.structs.fields(struct)
    }
    model: type[pydantic.BaseModel] = pydantic.create_model(
        struct.__name__, __config__=CONFIG, **fields
    )
    return model
