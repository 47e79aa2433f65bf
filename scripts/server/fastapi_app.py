"""The app of two deployments written with FastAPI and pydantic: typed in, typed out."""

# Not `from __future__ import annotations`: FastAPI reads the annotations of the endpoint.

import base64
import time
from typing import Any

import pydantic
from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from deployments.ingress.openai.fields import GenerationFields

from .echo import INGRESS_OPTIONS, MODEL_OPTIONS
from .typed import model_of

app = FastAPI()


class Generation(model_of(GenerationFields)):  # type: ignore[misc]
    """The body of a request: the fields that Stepwise takes."""


class ImageData(pydantic.BaseModel):
    """One picture of the answer."""

    b64_json: str
    seed: int


class InputTokens(pydantic.BaseModel):
    """What `input_tokens` is made of."""

    text_tokens: int
    image_tokens: int


class Usage(pydantic.BaseModel):
    """How much a request took."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    total_tokens: int


class Images(pydantic.BaseModel):
    """The body of the answer: the fields that Stepwise gives."""

    created: int
    data: list[ImageData]
    background: str
    output_format: str
    quality: str
    size: str
    usage: Usage


WORDS, PATCHES = 15, 256
USAGE = Usage(
    input_tokens=WORDS,
    input_tokens_details=InputTokens(text_tokens=WORDS, image_tokens=0),
    output_tokens=PATCHES,
    total_tokens=WORDS + PATCHES,
)
"""The same for every request here."""


class Painter:
    """The model: gives one PNG, made beforehand."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def generate(self, fields: Generation) -> bytes:
        """The picture."""
        return self._content


@serve.ingress(app)
class FastAPIIngress:
    """Decodes, asks the model, encodes."""

    def __init__(self, model: DeploymentHandle[Any]) -> None:
        self._model = model

    @app.post("/v1/images/generations")
    async def generations(self, fields: Generation) -> Images:
        """One picture."""
        content = await self._model.generate.remote(fields)
        picture = ImageData(b64_json=base64.b64encode(content).decode(), seed=fields.seed)
        return Images(
            created=int(time.time()),
            data=[picture],
            background="opaque",
            output_format="png",
            quality=fields.quality,
            size=fields.size,
            usage=USAGE,
        )


def graph(content: bytes, *, ingress_replicas: int) -> Application:
    """The app, with this PNG as every picture."""
    model = serve.deployment(name="painter", **MODEL_OPTIONS)(Painter).bind(content)
    ingress = serve.deployment(
        name="fastapi-ingress", num_replicas=ingress_replicas, **INGRESS_OPTIONS
    )
    return ingress(FastAPIIngress).bind(model)
