"""OpenAI's routes, as the documents tell of them."""

from deployments.ingress.documents.examples import PIXEL, PROMPT, SEED
from deployments.ingress.documents.operation import (
    EVENTS,
    FORM,
    PICTURES,
    Answer,
    Body,
    File,
    Operation,
    Parameter,
    opened,
)
from deployments.ingress.openai.answers import ImagesAnswer, ModelEntry, ModelList
from deployments.ingress.openai.edits import ImageReference, JsonEditFields
from deployments.ingress.openai.events import Completed, PartialImage
from deployments.ingress.openai.fields import EditFields, GenerationFields, VariationFields
from deployments.ingress.options import LORA_FIELDS
from deployments.ingress.sse import StreamError

GROUP = "OpenAI Images"
REFUSALS = (400, 404, 408, 413, 429, 503)

_GENERATION = opened(GenerationFields, **LORA_FIELDS)
_EDIT, _VARIATION = opened(EditFields, **LORA_FIELDS), opened(VariationFields, **LORA_FIELDS)
_JSON_EDIT = opened(JsonEditFields, images=tuple[ImageReference], **LORA_FIELDS)
_ENTRY = {"id": "embedded", "created": 1_790_000_000, "object": "model", "owned_by": "stepwise"}
_IMAGES = Answer(
    says="The pictures, as base64 or by their addresses.",
    type=ImagesAnswer,
    example={
        "created": 1_790_000_000,
        "data": [{"b64_json": PIXEL, "seed": SEED}],
        "background": "opaque",
        "output_format": "png",
        "quality": "medium",
        "size": "256x256",
        "usage": {
            "input_tokens": 8,
            "input_tokens_details": {"text_tokens": 8, "image_tokens": 0},
            "output_tokens": 256,
            "total_tokens": 264,
        },
    },
)
_PICTURE = Answer(
    says="The one picture itself, where `Accept` names an image type and no JSON; its seed is "
    "in `x-seed`.",
    media_types=PICTURES,
)
_IMAGE = File(name="image", says="A PNG, JPEG or WebP file. `image[]` is taken too.", required=True)
_VARIED = File(name="image", says="A PNG, JPEG or WebP file.", required=True)
_MASK = File(name="mask", says="A PNG of the image's size; transparent pixels are painted anew.")


def _stream(kind: str) -> Answer:
    return Answer(
        says="The pictures as events, where `stream` is true.",
        media_types=(EVENTS,),
        events={
            f"{kind}.partial_image": PartialImage,
            f"{kind}.completed": Completed,
            "error": StreamError,
        },
    )


OPERATIONS = (
    Operation(
        group=GROUP,
        method="POST",
        path="/v1/images/generations",
        says="Pictures of a prompt.",
        bodies=(
            Body(
                type=_GENERATION,
                example={"prompt": PROMPT, "n": 2, "seed": SEED, "num_inference_steps": 20},
            ),
        ),
        answers=(_IMAGES, _PICTURE, _stream("image_generation")),
        refusals=REFUSALS,
    ),
    Operation(
        group=GROUP,
        method="POST",
        path="/v1/images/edits",
        says="Pictures of an image and a prompt.",
        bodies=(
            Body(
                media_types=(FORM,),
                type=_EDIT,
                texts=LORA_FIELDS,
                files=(_IMAGE, _MASK, File(name="mask_image", says="Another name of mask.")),
                example={"prompt": PROMPT, "strength": 0.7},
            ),
            Body(
                type=_JSON_EDIT,
                example={
                    "prompt": PROMPT,
                    "images": [{"image_url": f"data:image/png;base64,{PIXEL}"}],
                },
            ),
        ),
        answers=(_IMAGES, _PICTURE, _stream("image_edit")),
        refusals=REFUSALS,
    ),
    Operation(
        group=GROUP,
        method="POST",
        path="/v1/images/variations",
        says="Other pictures like an image.",
        bodies=(
            Body(
                media_types=(FORM,),
                type=_VARIATION,
                texts=LORA_FIELDS,
                files=(_VARIED,),
                example={"n": 2},
            ),
        ),
        answers=(_IMAGES, _PICTURE),
        refusals=REFUSALS,
    ),
    Operation(
        group=GROUP,
        method="GET",
        path="/v1/models",
        says="The models that can be asked for now.",
        answers=(
            Answer(says="The list.", type=ModelList, example={"object": "list", "data": [_ENTRY]}),
        ),
    ),
    Operation(
        group=GROUP,
        method="GET",
        path="/v1/models/{id}",
        says="One of them.",
        parameters=(
            Parameter(name="id", says="A model's id; it may have slashes.", example="embedded"),
        ),
        answers=(Answer(says="The model.", type=ModelEntry, example=_ENTRY),),
        refusals=(404, 503),
    ),
    Operation(
        group=GROUP,
        method="GET",
        path="/v1/files/{name}",
        says="A picture, by the address that an answer with `response_format: url` gave.",
        parameters=(
            Parameter(
                name="name",
                says="From the address.",
                example="1790000000-AbCdEfGhIjKlMnOpQrStUv.png",
            ),
            Parameter(name="expires", says="Unix seconds.", place="query", example="1790003600"),
            Parameter(
                name="signature",
                says="What proves that this service gave the address.",
                place="query",
                example="0" * 64,
            ),
        ),
        answers=(Answer(says="The picture.", media_types=PICTURES),),
        refusals=(403, 404, 410),
        keyless=True,
    ),
)
