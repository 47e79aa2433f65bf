"""Serve's own config classes, held to the keys that they know.

Most of them drop in silence what they do not know, so that a misspelt key is as if it were not
there. Here it is refused, at any depth, with a hint. Knows nothing of this app's `args`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from ray.serve.schema import ServeDeploySchema

from deployments.ingress.hints import did_you_mean, listed


def read_config_file(path: Path) -> ServeDeploySchema:
    """A Serve config file. Raises ValueError with the place, the value and the cure."""
    try:
        said = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(str(error)) from error
    refuse_unknown(said, ServeDeploySchema)
    return ServeDeploySchema.model_validate(said)


def refuse_unknown(said: Any, model: type[BaseModel], place: str = "") -> None:
    """Raises ValueError for a key that `model`, or a class that it holds, has no field for."""
    if not isinstance(said, Mapping):
        return  # pydantic will say what it should have been
    for key, value in said.items():
        if key not in model.model_fields:
            where = f"{place}: " if place else ""
            raise ValueError(f"{where}unknown key {key!r}{suggestion(key, model.model_fields)}")
        inner = _model_in(model.model_fields[key].annotation)
        if inner is None:
            continue
        at = f"{place}.{key}" if place else str(key)
        if isinstance(value, list):
            for i, each in enumerate(value):
                refuse_unknown(each, inner, f"{at}[{i}]")
        else:
            refuse_unknown(value, inner, at)


def suggestion(key: object, known: Iterable[str]) -> str:
    """The key that was probably meant, or else all that there are."""
    return did_you_mean(str(key), known) or f"; known are {listed(known)}"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The config class in a field's type, as that of `Optional[X]`, `List[X]`, `Union[Dict, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
