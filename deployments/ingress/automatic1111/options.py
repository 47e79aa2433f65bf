"""The web UI's options, of which clients look at the model.

Upstream they are global and a POST changes them for everybody. Here nothing is kept: a client that
posts them back as they are is right, and one that wants another model says so in its requests.
"""

import msgspec

from deployments.errors import InvalidRequest
from deployments.ingress.automatic1111.wire import MODEL_SETTING
from deployments.ingress.bodies import decode_json
from deployments.ingress.hints import shown
from deployments.ingress.service import Service


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The body of GET options."""

    sd_model_checkpoint: str
    sd_checkpoint_hash: str = ""
    sd_vae: str = "Automatic"
    CLIP_stop_at_last_layers: int = 1
    samples_format: str = "png"


class SetOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The body of POST options; all others of the web UI's options are ignored."""

    sd_model_checkpoint: str | None = None


_decoder = msgspec.json.Decoder(SetOptions)


def encode_options(service: Service) -> bytes:
    """The options that hold, for everybody."""
    return msgspec.json.encode(Options(sd_model_checkpoint=service.card(None).id))


def check_options(service: Service, body: bytes) -> None:
    """Refuses a body that would change the model."""
    wanted = decode_json(body, _decoder).sd_model_checkpoint
    if wanted and service.card(wanted).id != service.card(None).id:
        raise InvalidRequest(
            f"{MODEL_SETTING} {shown(wanted)}: the model is not switched for everybody; send "
            f"override_settings.{MODEL_SETTING} with each request",
            param=MODEL_SETTING,
        )
