"""Jobs, as the documents tell of them."""

from deployments.ingress.documents.examples import PIXEL, PROMPT, SEED
from deployments.ingress.documents.operation import (
    EVENTS,
    Answer,
    Body,
    Operation,
    Parameter,
    opened,
)
from deployments.ingress.jobs.wire import JobAnswer, JobFields
from deployments.ingress.options import LORA_FIELDS
from deployments.ingress.sse import StreamError

GROUP = "Jobs"

_WAITING = {
    "id": "postcard-7",
    "object": "job",
    "state": "waiting",
    "model": "embedded",
    "created": 1_790_000_000,
    "queue_position": 3,
    "eta_s": 4.2,
    "call": 0,
    "calls": 20,
    "progress": 0.0,
    "images": 1,
    "images_done": 0,
    "preview": None,
    "error": None,
}
_DONE = {
    **_WAITING,
    "state": "succeeded",
    "queue_position": 0,
    "eta_s": 0.0,
    "call": 20,
    "progress": 1.0,
    "images_done": 1,
    "data": [
        {
            "b64_json": PIXEL,
            "seed": SEED,
            "width": 256,
            "height": 256,
            "output_format": "png",
            "warnings": [],
        }
    ],
}
_ID = Parameter(name="id", says="The job's id.", example="postcard-7")

OPERATIONS = (
    Operation(
        group=GROUP,
        method="POST",
        path="/v1/jobs",
        says="Starts a job and answers at once.",
        notes="Whoever sends an id of their own, in the body or as Idempotency-Key, can send the "
        "request again: the same id names the same job. An image and a mask are base64 or data "
        "URLs.",
        parameters=(
            Parameter(
                name="Idempotency-Key",
                says="The job's id.",
                place="header",
                required=False,
                example="postcard-7",
            ),
        ),
        bodies=(
            Body(
                type=opened(JobFields, **LORA_FIELDS),
                example={"prompt": PROMPT, "id": "postcard-7", "seed": SEED},
            ),
        ),
        answers=(Answer(says="The job.", status=202, type=JobAnswer, example=_WAITING),),
        refusals=(400, 404, 408, 413, 429, 503),
    ),
    Operation(
        group=GROUP,
        method="GET",
        path="/v1/jobs/{id}",
        says="A job as it is now, with its pictures once it is over.",
        parameters=(_ID,),
        answers=(Answer(says="The job.", type=JobAnswer, example=_DONE),),
        refusals=(404, 503),
    ),
    Operation(
        group=GROUP,
        method="GET",
        path="/v1/jobs/{id}/events",
        says="A job as it goes on, until it is over.",
        parameters=(_ID,),
        answers=(
            Answer(
                says="The job now, and at every change.",
                media_types=(EVENTS,),
                events={
                    "progress": JobAnswer,
                    "succeeded": JobAnswer,
                    "failed": JobAnswer,
                    "cancelled": JobAnswer,
                    "error": StreamError,
                },
            ),
        ),
        refusals=(404, 503),
    ),
    Operation(
        group=GROUP,
        method="DELETE",
        path="/v1/jobs/{id}",
        says="Cancels a job.",
        notes="What it has made by then is kept.",
        parameters=(_ID,),
        answers=(Answer(says="The job.", type=JobAnswer),),
        refusals=(404, 503),
    ),
)
