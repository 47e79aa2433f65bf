"""Requests that bring images: edits as a form or as JSON, and variations.

All of it takes milliseconds for large images, or seconds for evil forms: on a thread, please.
"""

from typing import TypeVar

import msgspec

from deployments.errors import InvalidRequest
from deployments.ingress.bodies import decode_json, decode_texts, unknown_parameter
from deployments.ingress.forms import Form, parse_form
from deployments.ingress.inline import inline_file
from deployments.ingress.openai.fields import (
    EditFields,
    ImagesCall,
    SharedFields,
    VariationFields,
    checked,
)
from deployments.ingress.options import canonical

MAX_IMAGE_CHARS = 20_971_520
"""OpenAI's limit for one image in JSON."""

_EDIT_FILES = ("image", "image[]", "mask", "mask_image")
_VARIATION_FILES = ("image",)


class ImageReference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An image of a JSON edit."""

    image_url: str | None = None
    """A data URL, or bare base64. Addresses are not fetched."""
    file_id: str | None = None
    """OpenAI's files are not here: refused."""


class JsonEditFields(EditFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON body of POST /v1/images/edits."""

    images: tuple[ImageReference] | None = None
    """OpenAI takes up to 16. One is all that is decoded: 60 MB of `{},` would become 1.4 GB."""
    mask: ImageReference | None = None
    mask_image: ImageReference | None = None
    """Another service's name for `mask`."""


_edit_decoder = msgspec.json.Decoder(JsonEditFields)


FieldsT = TypeVar("FieldsT", bound=SharedFields)


def decode_edit(body: bytes, content_type: str) -> ImagesCall:
    """The form of /v1/images/edits."""
    form = parse_form(body, content_type)
    fields = _texts(form, EditFields, files=_EDIT_FILES)
    image = _required(form.files("image", "image[]"))
    masks = form.files("mask", "mask_image")
    mask = _only(masks, "mask") if masks else None
    return checked(ImagesCall(fields=fields, image=image, mask=mask))


def decode_variation(body: bytes, content_type: str) -> ImagesCall:
    """The form of /v1/images/variations."""
    form = parse_form(body, content_type)
    fields = _texts(form, VariationFields, files=_VARIATION_FILES)
    return checked(ImagesCall(fields=fields, image=_required(form.files("image"))))


def decode_json_edit(body: bytes) -> ImagesCall:
    """The JSON of /v1/images/edits."""
    fields = canonical(decode_json(body, _edit_decoder))
    if fields.images is None:
        raise _missing("images", 'send [{"image_url": "data:image/png;base64,…"}]')
    image = _referenced(fields.images[0], "images")
    mask = None if fields.mask is None else _referenced(fields.mask, "mask")
    return checked(ImagesCall(fields=fields, image=image, mask=mask))


def _texts(form: Form, struct: type[FieldsT], *, files: tuple[str, ...]) -> FieldsT:
    for name in form.names():
        if name not in files and name not in struct.__struct_fields__:
            raise unknown_parameter(name, struct, files=files)
    return canonical(decode_texts(form.texts(but=files), struct))


def _required(images: list[bytes]) -> bytes:
    if not images:
        raise _missing("image", "send one PNG, JPEG or WebP file")
    return _only(images, "image")


def _only(files: list[bytes], name: str) -> bytes:
    """OpenAI takes up to 16 images; a diffusion here begins with one."""
    if len(files) > 1:
        raise InvalidRequest(
            f"{name}: {len(files)} files were sent, and the models here take one; send one",
            param=name,
        )
    return files[0]


def _referenced(reference: ImageReference, param: str) -> bytes:
    if reference.file_id is not None:
        raise InvalidRequest(
            f"{param}: file_id is not offered, no files are kept here; send image_url with a data "
            "URL",
            param=param,
        )
    if reference.image_url is None:
        raise _missing(param, "send an object with image_url, a data URL")
    if len(reference.image_url) > MAX_IMAGE_CHARS:
        raise InvalidRequest(
            f"{param}: image_url has {len(reference.image_url)} characters; send at most "
            f"{MAX_IMAGE_CHARS}, or the image as a file of a form",
            param=param,
        )
    return inline_file(reference.image_url, param=param)


def _missing(name: str, cure: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name} is missing; {cure}", param=name, code="missing_required_parameter"
    )
