"""What is served here: what a client or a page needs to know to draw its form."""

from typing import get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.ingress.answers import json_answer
from deployments.ingress.resolve import MAX_PROMPT_CHARS
from deployments.ingress.service import Service
from deployments.requests import MAX_ADAPTER_SCALE, MAX_SEED, ModelCard, OutputFormat


class SizeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Which sizes, in pixels, a model paints."""

    multiple: int
    """Both sides are multiples of this ..."""
    min_side: int
    max_side: int
    """... in these bounds."""
    only: tuple[tuple[int, int], ...]
    """The only sizes (width, height); empty where every size within the limits is offered."""


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What a request gets that leaves these out."""

    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    strength: float
    scheduler: str


class LoraEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter that requests may name."""

    name: str
    default_scale: float


class ModelLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a request may ask for."""

    n: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    prompt_chars: int
    loras: int
    """How many one request may combine."""
    lora_scale: float
    """Of either sign."""


class ModelCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """One model that answers."""

    id: str
    family: str
    default: bool
    """Whether it is taken when a request names none."""
    sizes: SizeLimits
    schedulers: tuple[str, ...]
    loras: tuple[LoraEntry, ...]
    defaults: Defaults
    limits: ModelLimits


class BodyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a request, whatever the model."""

    max_body_mb: float
    """In megabytes of 1,000,000 bytes."""
    max_megapixels: float
    """Of an input image or mask."""
    max_pixels: int
    """Of a picture that is made, width times height; 0 where the model alone sets a limit."""


class RouteEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A path that is answered."""

    path: str
    methods: list[str]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """The body of GET /v1/capabilities."""

    models: list[ModelCapabilities]
    loading: list[str]
    """Configured models that do not answer yet."""
    output_formats: tuple[str, ...] = get_args(OutputFormat)
    limits: BodyLimits
    routes: list[RouteEntry]


def routes(service: Service) -> list[Route]:
    """/v1/capabilities"""

    async def capabilities(request: Request) -> Response:
        """GET /v1/capabilities"""
        offered = _capabilities(service, request.app.routes)
        return json_answer(msgspec.json.encode(offered))

    return [Route("/v1/capabilities", capabilities, methods=["GET"])]


def _capabilities(service: Service, offered: list[Route]) -> Capabilities:
    cards = service.backend.cards()
    models = service.backend.models()
    return Capabilities(
        models=[
            _model(service.card(model), default=model == models[0])
            for model in models
            if model in cards
        ],
        loading=[model for model in models if model not in cards],
        limits=BodyLimits(
            max_body_mb=service.settings.max_body_mb,
            max_megapixels=service.settings.max_megapixels,
            max_pixels=service.settings.limits.max_pixels,
        ),
        routes=[
            RouteEntry(path=route.path, methods=sorted(route.methods or ())) for route in offered
        ],
    )


def _model(card: ModelCard, *, default: bool) -> ModelCapabilities:
    return ModelCapabilities(
        id=card.id,
        family=card.family,
        default=default,
        sizes=SizeLimits(
            multiple=card.size_multiple,
            min_side=card.min_side,
            max_side=card.max_side,
            only=card.sizes,
        ),
        schedulers=card.schedulers,
        loras=tuple(LoraEntry(name=use.name, default_scale=use.scale) for use in card.adapters),
        defaults=Defaults(
            width=card.default_width,
            height=card.default_height,
            num_inference_steps=card.default_steps,
            guidance_scale=card.default_guidance,
            strength=card.default_strength,
            scheduler=card.default_scheduler,
        ),
        limits=ModelLimits(
            n=card.max_images,
            num_inference_steps=card.max_steps,
            guidance_scale=card.max_guidance,
            seed=MAX_SEED,
            prompt_chars=MAX_PROMPT_CHARS,
            loras=card.max_adapters,
            lora_scale=MAX_ADAPTER_SCALE,
        ),
    )
