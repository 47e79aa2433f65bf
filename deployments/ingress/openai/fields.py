"""What OpenAI's clients send: names, types, and what cannot go together.

Knows no limits of a model (`resolve.py`) and no status codes (`failures.py`).
"""

from dataclasses import dataclass
from typing import Literal

import msgspec

from deployments.errors import InvalidRequest
from deployments.ingress.bodies import decode_json
from deployments.ingress.hints import shown
from deployments.ingress.options import PictureOptions, canonical

Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]

MAX_PARTIAL_IMAGES = 3
"""OpenAI's limit."""


class SharedFields(PictureOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields that all routes take. `null` and absent are the same."""

    quality: Quality | None = None
    response_format: Literal["b64_json", "url", "base64"] | None = None
    """`base64` is another service's word for `b64_json`."""
    background: Literal["auto", "opaque", "transparent"] | None = None
    # Accepted for OpenAI's sake; no picture depends on them.
    moderation: str | None = None
    safety_identifier: str | None = None


class PromptFields(SharedFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What generations and edits take besides."""

    prompt: str
    stream: bool | None = None
    partial_images: int | None = None


class GenerationFields(PromptFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON body of POST /v1/images/generations."""

    style: str | None = None


class EditFields(PromptFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The text fields of POST /v1/images/edits."""

    input_fidelity: str | None = None


class VariationFields(SharedFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The text fields of POST /v1/images/variations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesCall:
    """A request as it came: its fields are of the right type and go together, no more is known."""

    fields: SharedFields
    image: bytes | None = None
    mask: bytes | None = None

    @property
    def prompt(self) -> str:
        """Empty for a variation."""
        return self.fields.prompt if isinstance(self.fields, PromptFields) else ""

    @property
    def stream(self) -> bool:
        """Whether the answer is events."""
        return isinstance(self.fields, PromptFields) and bool(self.fields.stream)

    @property
    def partial_images(self) -> int:
        """Previews to send of each picture."""
        return (self.fields.partial_images or 0) if isinstance(self.fields, PromptFields) else 0


_generation_decoder = msgspec.json.Decoder(GenerationFields)


def decode_generation(body: bytes) -> ImagesCall:
    """The JSON of /v1/images/generations."""
    return checked(ImagesCall(fields=canonical(decode_json(body, _generation_decoder))))


def checked(call: ImagesCall) -> ImagesCall:
    """The call, if its fields go together."""
    if isinstance(call.fields, PromptFields):
        _check_stream(call.fields)
    if call.fields.background == "transparent":
        raise InvalidRequest(
            "background 'transparent' is not offered, the models here paint every pixel; "
            "send 'opaque' or 'auto'",
            param="background",
        )
    return call


def _check_stream(fields: PromptFields) -> None:
    partial_images = fields.partial_images or 0
    if not 0 <= partial_images <= MAX_PARTIAL_IMAGES:
        raise InvalidRequest(
            f"partial_images must be from 0 to {MAX_PARTIAL_IMAGES}, got {shown(partial_images)}",
            param="partial_images",
        )
    if partial_images and not fields.stream:
        raise InvalidRequest(
            f"partial_images is {partial_images} and nothing is streamed; send stream true, or "
            "partial_images 0",
            param="partial_images",
        )
    if fields.stream and fields.response_format == "url":
        raise InvalidRequest(
            "response_format 'url' is not offered with stream, whose events hold the pictures; "
            "send 'b64_json', or stream false",
            param="response_format",
        )
