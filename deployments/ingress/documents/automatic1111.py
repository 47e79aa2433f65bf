"""AUTOMATIC1111's routes, as the documents tell of them."""

from typing import Annotated, Any

from msgspec import Meta

from deployments.ingress.automatic1111.info import Answer as Images
from deployments.ingress.automatic1111.lists import EMPTY_LISTS, Lora, Model, Sampler, Scheduler
from deployments.ingress.automatic1111.options import Options, SetOptions
from deployments.ingress.automatic1111.png_info import PngInfo, PngInfoFields
from deployments.ingress.automatic1111.progress import Progress
from deployments.ingress.automatic1111.refusals import Refusal
from deployments.ingress.automatic1111.wire import ImageFields, TextFields
from deployments.ingress.documents.examples import PIXEL, PROMPT, SEED
from deployments.ingress.documents.operation import Answer, Body, Operation, Parameter, opened

GROUP = "AUTOMATIC1111"

_OBJECTS = {
    "override_settings": dict[str, Any] | None,
    "alwayson_scripts": dict[str, Any] | None,
}
_TEXT, _IMAGE = opened(TextFields, **_OBJECTS), opened(ImageFields, **_OBJECTS)
_IMAGES = opened(Images, parameters=_TEXT)
_NOTHING = Annotated[list[Any], Meta(max_length=0)]
_MAKES = (404, 408, 413, 422, 429, 503)
_READS = (408, 413, 422)


def _post(
    name: str,
    says: str,
    answer: Any,
    *,
    notes: str = "",
    body: Body | None = None,
    refusals: tuple[int, ...] = (503,),
) -> Operation:
    return Operation(
        group=GROUP,
        method="POST",
        path=f"/sdapi/v1/{name}",
        says=says,
        notes=notes,
        bodies=() if body is None else (body,),
        answers=(Answer(says="Done.", type=answer),),
        refusals=refusals,
        refusal=Refusal,
    )


def _get(
    name: str,
    says: str,
    answer: Any,
    *,
    refusals: tuple[int, ...] = (),
    parameters: tuple[Parameter, ...] = (),
) -> Operation:
    return Operation(
        group=GROUP,
        method="GET",
        path=f"/sdapi/v1/{name}",
        says=says,
        parameters=parameters,
        answers=(Answer(says="The answer.", type=answer),),
        refusals=refusals,
        refusal=Refusal,
    )


OPERATIONS = (
    _post(
        "txt2img",
        "Pictures of a prompt.",
        _IMAGES,
        notes="`info` of the answer is a string with JSON in it. Unknown fields are ignored; known "
        "ones that would make another picture than is offered are refused.",
        body=Body(type=_TEXT, example={"prompt": PROMPT, "steps": 20, "seed": SEED}),
        refusals=_MAKES,
    ),
    _post(
        "img2img",
        "Pictures of an image and a prompt.",
        _IMAGES,
        notes="White pixels of the mask are painted anew.",
        body=Body(type=_IMAGE, example={"prompt": PROMPT, "init_images": [PIXEL]}),
        refusals=_MAKES,
    ),
    _post("interrupt", "Ends all that the caller's API key runs here.", dict[str, Any]),
    _post("skip", "Ends the oldest of them.", dict[str, Any]),
    _get(
        "progress",
        "How far the oldest of them is.",
        Progress,
        refusals=(503,),
        parameters=(
            Parameter(
                name="skip_current_image",
                says="`true` leaves the preview out.",
                place="query",
                required=False,
                example="true",
            ),
        ),
    ),
    _post(
        "png-info",
        "What a picture's file says of how it was made.",
        PngInfo,
        body=Body(type=PngInfoFields, example={"image": PIXEL}),
        refusals=_READS,
    ),
    _get("options", "The options that hold.", Options, refusals=(503,)),
    _post(
        "options",
        "Accepts the options as they are.",
        None,
        notes="Nothing is kept: `override_settings.sd_model_checkpoint` of a request chooses its "
        "model.",
        body=Body(type=SetOptions, example={"samples_format": "png"}),
        refusals=(404, *_READS, 503),
    ),
    _post("refresh-checkpoints", "Does nothing: models come and go by config.", None, refusals=()),
    _post("refresh-loras", "Does nothing: loras come and go by config.", None, refusals=()),
    _get("sd-models", "The models.", list[Model]),
    _get("samplers", "The samplers of the default model.", list[Sampler], refusals=(503,)),
    _get("schedulers", "How noise levels can be spaced.", list[Scheduler], refusals=(503,)),
    _get(
        "loras",
        "The adapters of the default model, to be named in prompts as `<lora:NAME:SCALE>`.",
        list[Lora],
        refusals=(503,),
    ),
    _get("scripts", "None.", dict[str, _NOTHING]),
    _get("embeddings", "None.", dict[str, dict[str, Any]]),
    *(_get(name, "None.", _NOTHING) for name in EMPTY_LISTS),
)
