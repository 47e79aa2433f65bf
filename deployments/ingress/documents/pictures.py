"""The routes that answer one picture and nothing else, as the documents tell of them."""

from typing import Any

from deployments.ingress.documents.examples import PROMPT, SEED
from deployments.ingress.documents.operation import (
    FORM,
    PICTURES,
    URLENCODED,
    Answer,
    Body,
    File,
    Operation,
    Parameter,
    opened,
)
from deployments.ingress.huggingface import Parameters, Refusal, TaskBody
from deployments.ingress.options import LORA_FIELDS
from deployments.ingress.superlabs import PREFIX, Message, Options

REPLACED = "The service that this one replaces"

_PICTURE = Answer(
    says="The picture, in the format that `Accept` names, or PNG; its seed is in `x-seed`.",
    media_types=PICTURES,
)
_REFUSALS = (400, 404, 408, 413, 429, 503)
_PARAMETERS: Any = opened(Parameters, **LORA_FIELDS)
_TASK = opened(TaskBody, parameters=_PARAMETERS | None, options=Any | None)
_MESSAGE = opened(Message, options=opened(Options, **LORA_FIELDS))
_OPTIONS = {"prompt": PROMPT, "num_inference_steps": 20, "seed": SEED}
_TEXTS = {"message_json": _MESSAGE}


OPERATIONS = (
    Operation(
        group="Hugging Face",
        method="POST",
        path="/hf/models/{id}",
        says="text_to_image and image_to_image.",
        notes="`inputs` is a base64 image where `parameters` has a prompt, a strength or a "
        "target_size, or where it begins like one; else it is the prompt.",
        parameters=(
            Parameter(name="id", says="A model's id; it may have slashes.", example="embedded"),
        ),
        bodies=(
            Body(
                type=_TASK,
                example={
                    "inputs": PROMPT,
                    "parameters": {"num_inference_steps": 20, "seed": SEED},
                },
            ),
            Body(media_types=(*PICTURES, "application/octet-stream")),
        ),
        answers=(_PICTURE,),
        refusals=_REFUSALS,
        refusal=Refusal,
    ),
    Operation(
        group=REPLACED,
        method="POST",
        path=f"{PREFIX}/txt2img",
        says="A picture of a prompt.",
        bodies=(
            Body(
                media_types=(FORM, URLENCODED),
                texts=_TEXTS,
                example={"message_json": {"options": _OPTIONS}},
            ),
        ),
        answers=(_PICTURE,),
        refusals=_REFUSALS,
    ),
    Operation(
        group=REPLACED,
        method="POST",
        path=f"{PREFIX}/img2img",
        says="A picture of an image and a prompt.",
        bodies=(
            Body(
                media_types=(FORM,),
                texts=_TEXTS,
                files=(File(name="file", says="A PNG, JPEG or WebP file.", required=True),),
                example={"message_json": {"options": {**_OPTIONS, "strength": 0.7}}},
            ),
        ),
        answers=(_PICTURE,),
        refusals=_REFUSALS,
    ),
)
