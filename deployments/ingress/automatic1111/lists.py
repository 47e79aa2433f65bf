"""What is on offer, in the shapes of the web UI's lists. Built from the models' cards alone."""

from collections.abc import Iterable

import msgspec

from deployments.ingress.metadata import SPACINGS, sampler_and_spacing
from deployments.requests import ModelCard

KARRAS_RHO = 7.0

EMPTY_LISTS = (
    "upscalers",
    "latent-upscale-modes",
    "sd-vae",
    "hypernetworks",
    "face-restorers",
    "realesrgan-models",
    "prompt-styles",
)
"""Clients ask for these at their start and take "nothing" well, but not a 404."""
NO_SCRIPTS: dict[str, list[str]] = {"txt2img": [], "img2img": []}
NO_EMBEDDINGS: dict[str, dict[str, str]] = {"loaded": {}, "skipped": {}}


class Sampler(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of GET samplers."""

    name: str
    aliases: list[str] = []
    options: dict[str, str] = {}


class Scheduler(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of GET schedulers: a spacing of a sampler's noise levels."""

    name: str
    label: str
    aliases: list[str] = []
    default_rho: float = -1.0
    need_inner_model: bool = False


class Lora(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of GET loras."""

    name: str
    alias: str
    path: str
    metadata: dict[str, str] = {}


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of GET sd-models."""

    title: str
    model_name: str
    hash: str | None = None
    sha256: str | None = None
    filename: str
    config: str | None = None


def samplers(card: ModelCard) -> list[Sampler]:
    """The familiar names, without their spacings, which are a list of their own."""
    names = [name for name in card.schedulers if sampler_and_spacing(name)[1] is None]
    familiar = [name for name in names if not name.endswith("Scheduler")]
    return [Sampler(name=name) for name in familiar or names]


def schedulers(card: ModelCard) -> list[Scheduler]:
    """`automatic`, the sampler's own spacing, and those that some sampler can have instead."""
    offered = {sampler_and_spacing(name)[1] for name in card.schedulers}
    return [
        Scheduler(name="automatic", label="Automatic"),
        *(
            Scheduler(
                name=spacing.lower(),
                label=spacing,
                default_rho=KARRAS_RHO if spacing == "Karras" else -1.0,
            )
            for spacing in SPACINGS
            if spacing in offered
        ),
    ]


def loras(card: ModelCard) -> list[Lora]:
    """What a prompt may name in `<lora:NAME:SCALE>`."""
    return [Lora(name=use.name, alias=use.name, path=use.name) for use in card.adapters]


def models(cards: Iterable[ModelCard]) -> list[Model]:
    """The models that can be asked for now."""
    return [Model(title=card.id, model_name=card.id, filename=card.id) for card in cards]
