"""What is known of the fields of requests beyond their types, as JSON Schema by name.

Only limits that hold for every model are here; the models' own are at /v1/capabilities.
"""

from typing import Any

import msgspec

from deployments.ingress.automatic1111.png_info import PngInfoFields
from deployments.ingress.automatic1111.wire import TextFields
from deployments.ingress.huggingface import Parameters, TaskBody
from deployments.ingress.jobs.wire import JobFields
from deployments.ingress.openai.edits import MAX_IMAGE_CHARS, ImageReference, JsonEditFields
from deployments.ingress.openai.fields import MAX_PARTIAL_IMAGES, SharedFields
from deployments.ingress.options import DiffusionOptions, Lora
from deployments.ingress.resolve import MAX_COMPRESSION, MAX_MASK_BLUR, MAX_PROMPT_CHARS
from deployments.ingress.superlabs import Message, Options
from deployments.requests import MAX_ADAPTER_SCALE, MAX_SEED

Json = dict[str, Any]

_PROMPT: Json = {"maxLength": MAX_PROMPT_CHARS}
_FRACTION: Json = {"minimum": 0, "maximum": 1}


def limits_of(struct: type[msgspec.Struct]) -> Json:
    """JSON Schema to add to that of the struct's fields, by their names."""
    known: Json = {}
    for base, fields in _KNOWN.items():
        if issubclass(struct, base):
            known |= fields
    return {name: known[name] for name in struct.__struct_fields__ if name in known}


def _said(description: str, **limits: object) -> Json:
    return {"description": description, **limits}


_DIFFUSION: dict[str, Json] = {
    "negative_prompt": _said("What it should not show.", **_PROMPT),
    "width": _said("In pixels, with `height`; `/v1/capabilities` has the model's sizes."),
    "height": _said("In pixels, with `width`."),
    "num_inference_steps": _said("Steps of the sampler. Default: the model's.", minimum=1),
    "guidance_scale": _said("1 or less switches guidance off. Default: the model's.", minimum=0),
    "guidance_rescale": _said("How much of the contrast of guidance is taken back.", **_FRACTION),
    "guidance_start": _said("Guidance is on from this fraction of the run ...", **_FRACTION),
    "guidance_end": _said("... to this one.", **_FRACTION),
    "scheduler": _said("A name from `/v1/capabilities`, such as `DPM++ 2M Karras`."),
    "seed": _said("Picture i has seed + i. Default: random.", minimum=0, maximum=MAX_SEED),
    "strength": _said(
        "How much of the input image is repainted. Default: the model's.",
        exclusiveMinimum=0,
        maximum=1,
    ),
    "resize_mode": _said(
        "What becomes of an input image of other proportions: `stretch` it, `crop` what is beyond "
        "the picture, or `pad` it with its own edge. Default: stretch."
    ),
    "mask_blur": _said(
        "Standard deviation of the blur of the mask's edge, in pixels of the picture. Default: 0.",
        minimum=0,
        maximum=MAX_MASK_BLUR,
    ),
    "prompt_weighting": _said("Whether brackets weigh words: `(red:1.2)`, `[grey]`."),
    "priority": _said("Who goes first where requests wait."),
    "loras": _said("Adapters of the model that act together; `/v1/capabilities` has their names."),
    "steps": _said("Another name of num_inference_steps.", minimum=1),
    "step": _said("Another name of num_inference_steps.", minimum=1),
    "cfg_scale": _said("Another name of guidance_scale.", minimum=0),
    "true_cfg_scale": _said("Another name of guidance_scale.", minimum=0),
    "denoising_strength": _said("Another name of strength.", exclusiveMinimum=0, maximum=1),
    "sampler_name": _said("Another name of scheduler."),
    "lora": _said("Another name of loras."),
    "image_loras": _said("Another name of loras."),
}

_IMAGES: dict[str, Json] = {
    "prompt": _said("What the picture shows.", minLength=1, **_PROMPT),
    "model": _said("An id from `/v1/models`. Default: the first one."),
    "n": _said("How many pictures. Default: 1.", minimum=1),
    "size": _said(
        "`auto` or WIDTHxHEIGHT in pixels. Default: the model's, for an image its shape.",
        pattern="^(auto|[1-9][0-9]{0,5}x[1-9][0-9]{0,5})$",
    ),
    "quality": _said("A preset of steps; num_inference_steps, if sent, wins."),
    "response_format": _said("Base64, or an address that is good for a while."),
    "output_format": _said("The pictures' file format. Default: png."),
    "output_compression": _said(
        "Quality of jpeg and webp. Default: 100.", minimum=0, maximum=MAX_COMPRESSION
    ),
    "background": _said("`transparent` is refused: the models here paint every pixel."),
    "stream": _said("Whether to answer with events as the pictures are made."),
    "partial_images": _said(
        "Previews of each picture of a stream. Default: 0.", minimum=0, maximum=MAX_PARTIAL_IMAGES
    ),
    "style": _said("Accepted and ignored."),
    "input_fidelity": _said("Accepted and ignored: use strength."),
    "moderation": _said("Accepted and ignored."),
    "user": _said("Accepted and ignored."),
    "safety_identifier": _said("Accepted and ignored."),
    "mask_image": _said("Another name of mask."),
}

_AUTOMATIC1111: dict[str, Json] = {
    "prompt": _said(
        "What the picture shows. Brackets weigh words, `(red:1.2)`, and `<lora:NAME:SCALE>` puts "
        "an adapter on.",
        **_PROMPT,
    ),
    "negative_prompt": _said("What it should not show.", **_PROMPT),
    "seed": _said("-1 for a random one; picture i has seed + i.", minimum=-1, maximum=MAX_SEED),
    "steps": _said("Steps of the sampler. Default: 50.", minimum=1),
    "cfg_scale": _said("Guidance scale. Default: 7.", minimum=0),
    "width": _said("In pixels. Default: 512, where the model offers it."),
    "height": _said("In pixels. Default: 512, where the model offers it."),
    "batch_size": _said("Pictures: batch_size times n_iter.", minimum=1),
    "n_iter": _said("Pictures: batch_size times n_iter.", minimum=1),
    "sampler_name": _said("A name from `/sdapi/v1/samplers`."),
    "sampler_index": _said("Another name of sampler_name."),
    "scheduler": _said("A name from `/sdapi/v1/schedulers`."),
    "denoising_strength": _said("How much of the input image is repainted. Default: 0.75."),
    "override_settings": _said("`sd_model_checkpoint` names the model; others are ignored."),
    "send_images": _said("False leaves the pictures out of the answer."),
    "init_images": _said("One picture, as base64 or as a data URL."),
    "mask": _said("White is painted anew. Base64 or a data URL."),
    "inpainting_mask_invert": _said("1 paints what is black instead."),
    "include_init_images": _said("Whether `parameters` of the answer repeats the input picture."),
}

_KNOWN: dict[type[msgspec.Struct], dict[str, Json]] = {
    DiffusionOptions: _DIFFUSION,
    Lora: {
        "name": _said("From `/v1/capabilities`."),
        "path": _said("Another name of name."),
        "scale": _said(
            "How strongly it acts; 1 is as it was trained. Default: the adapter's.",
            minimum=-MAX_ADAPTER_SCALE,
            maximum=MAX_ADAPTER_SCALE,
        ),
    },
    SharedFields: _IMAGES,
    JobFields: {
        **_IMAGES,
        "id": _said(
            "Chosen by the client: sent again, it names the same job.",
            pattern="^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$",
        ),
        "image": _said("Base64 or a data URL."),
        "mask": _said("Of the image's size; transparent pixels are painted anew."),
    },
    JsonEditFields: {
        "images": _said("One image."),
        "mask": _said("Of the image's size; transparent pixels are painted anew."),
    },
    ImageReference: {
        "image_url": _said("A data URL, or base64 alone.", maxLength=MAX_IMAGE_CHARS),
        "file_id": _said("Refused: no files are kept here."),
    },
    Options: {"prompt": _IMAGES["prompt"]},
    Message: {
        "model": _IMAGES["model"],
        "request_time": _said("Accepted and ignored."),
        "note": _said("Accepted and ignored."),
    },
    TaskBody: {
        "inputs": _said("The prompt, or an image in base64."),
        "options": _said("Accepted and ignored."),
    },
    Parameters: {
        "prompt": _said("Of an image.", **_PROMPT),
        "target_size": _said("Instead of width and height."),
    },
    TextFields: _AUTOMATIC1111,
    PngInfoFields: {"image": _said("A PNG, JPEG or WebP file, as base64 or as a data URL.")},
}
"""By the struct that has the fields, or a base of it; a later one wins."""
