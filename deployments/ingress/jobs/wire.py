"""Jobs on the wire: what starts one and what is told of it. Knows no limits."""

import re
import secrets
from collections.abc import Sequence

import msgspec

from deployments.errors import InvalidRequest, UnknownJob
from deployments.ingress.bodies import decode_json
from deployments.ingress.failures import ErrorDetail, describe
from deployments.ingress.hints import shown
from deployments.ingress.inline import inline_file
from deployments.ingress.options import PictureOptions, canonical, picture_params
from deployments.requests import (
    GenerationParams,
    ImageResult,
    JobState,
    JobView,
    ModelCard,
    OutputFormat,
)

_GOOD_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


class JobFields(PictureOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON body of POST /v1/jobs. `null` and absent are the same."""

    prompt: str
    id: str | None = None
    """Chosen by the client: sent again, it names the same job, and nothing is run twice."""
    image: str | None = None
    """Base64 or a data URL, as is `mask`, whose transparent pixels are painted."""
    mask: str | None = None
    mask_image: str | None = None


class JobPicture(msgspec.Struct, frozen=True, kw_only=True):
    """One picture of a job. msgspec writes bytes as base64."""

    b64_json: bytes
    seed: int
    width: int
    height: int
    output_format: OutputFormat
    warnings: tuple[str, ...]
    """What of the request was not followed to the letter."""


class JobAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is now."""

    id: str
    object: str = "job"
    state: JobState
    model: str
    created: int
    """Unix seconds."""
    queue_position: int
    """Rows that go first; 0 once all of its own run."""
    eta_s: float
    call: int
    """Model calls done, of all pictures together ..."""
    calls: int
    """... of so many; 0 before anything is known."""
    progress: float
    """Of the model calls, from 0 to 1."""
    images: int
    """Pictures asked for ..."""
    images_done: int
    """... and made so far."""
    preview: bytes | None
    """The newest preview, a small JPEG. In an event: null where it is the last event's."""
    error: ErrorDetail | None
    """Why it failed."""
    data: list[JobPicture] | None = None
    """What it made, once it is over; of a failed or cancelled job what was done by then."""


_decoder = msgspec.json.Decoder(JobFields)


def decode_job(body: bytes) -> tuple[JobFields, bytes | None, bytes | None]:
    """The fields, the image and the mask; on a thread, the body may be large."""
    fields = canonical(decode_json(body, _decoder))
    image = None if fields.image is None else inline_file(fields.image, param="image")
    mask = None if fields.mask is None else inline_file(fields.mask, param="mask")
    return fields, image, mask


def to_params(
    fields: JobFields, image: bytes | None, mask: bytes | None, card: ModelCard
) -> GenerationParams:
    """The job in the service's own terms."""
    params = GenerationParams(prompt=fields.prompt, model=card.id, image=image, mask=mask)
    return picture_params(fields, params)


def chosen_id(in_body: str | None, in_header: str | None) -> str:
    """The id that the client chose, in the body or as its idempotency key, or else a new one."""
    if in_body is not None and in_header is not None and in_body != in_header:
        raise InvalidRequest(
            f"id {shown(in_body)} and the header Idempotency-Key {shown(in_header)} are two names "
            "for one job; send one of them",
            param="id",
        )
    chosen = in_header if in_body is None else in_body
    if chosen is None:
        return f"job-{secrets.token_hex(12)}"
    if not _GOOD_ID.fullmatch(chosen):
        raise InvalidRequest(
            f"id {shown(chosen)} is not understood; send 1 to 64 letters, digits, '_', '.' or "
            "'-', the first of them neither '.' nor '-'",
            param="id",
        )
    return chosen


def known_id(text: str) -> str:
    """The id in a path; UnknownJob, without asking the ledger, where no job can have it."""
    if not _GOOD_ID.fullmatch(text):
        raise UnknownJob(f"job {shown(text)} is not known: no job has such an id", param="id")
    return text


def encode_job(view: JobView, *, results: Sequence[ImageResult] | None = None) -> bytes:
    """The job as JSON, with its pictures if they are given."""
    answer = JobAnswer(
        id=view.id,
        state=view.state,
        model=view.model,
        created=int(view.created),
        queue_position=view.queue_position,
        eta_s=view.eta_s,
        call=view.call,
        calls=view.calls,
        progress=view.call / view.calls if view.calls else 0.0,
        images=view.images,
        images_done=view.images_done,
        preview=view.preview,
        error=None if view.error is None else describe(view.error)[1],
        data=None if results is None else [_picture(each) for each in results],
    )
    return msgspec.json.encode(answer)


def _picture(result: ImageResult) -> JobPicture:
    return JobPicture(
        b64_json=result.content,
        seed=result.seed,
        width=result.width,
        height=result.height,
        output_format=result.output_format,
        warnings=result.warnings,
    )
