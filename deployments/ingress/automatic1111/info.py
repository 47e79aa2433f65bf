"""The answer to txt2img and img2img: the pictures, and `info`, a string with JSON in it.

`info` has the keys that the web UI writes and clients read, at the values that hold here.
"""

import time
from collections.abc import Sequence

import msgspec

from deployments.ingress.automatic1111.wire import ImageFields, TextFields, ignored
from deployments.ingress.metadata import infotext, sampler_and_spacing, tagged_prompt
from deployments.requests import GenerationRequest, ImageResult

TIMESTAMP = "%Y%m%d%H%M%S"


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What is inside the string `info`. The lists have one entry for each picture."""

    prompt: str
    all_prompts: list[str]
    negative_prompt: str
    all_negative_prompts: list[str]
    seed: int
    all_seeds: list[int]
    subseed: int = -1
    """None is offered."""
    all_subseeds: list[int]
    subseed_strength: float = 0.0
    width: int
    height: int
    sampler_name: str
    cfg_scale: float
    steps: int
    batch_size: int
    restore_faces: bool = False
    sd_model_name: str
    sd_model_hash: str = ""
    """Empty: a model is known here by its id."""
    denoising_strength: float | None
    extra_generation_params: dict[str, str]
    index_of_first_image: int = 0
    """There is no grid before the pictures."""
    infotexts: list[str]
    styles: list[str] = []
    job_timestamp: str
    clip_skip: int = 1
    is_using_inpainting_conditioning: bool = False
    interrupted: bool
    """Whether the pictures are those that were finished when somebody interrupted."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a success. msgspec writes bytes as base64."""

    images: list[bytes]
    parameters: TextFields
    info: str
    warnings: list[str]
    """What was asked for and ignored; the web UI has no such key."""


def encode_answer(
    fields: TextFields,
    settled: GenerationRequest,
    results: Sequence[ImageResult],
    *,
    interrupted: bool,
) -> bytes:
    """The answer as JSON. Takes milliseconds for large pictures."""
    images = [] if fields.send_images is False else [each.content for each in results]
    info = _info(fields, settled, results, interrupted=interrupted)
    return msgspec.json.encode(
        Answer(
            images=images,
            parameters=_echo(fields),
            info=msgspec.json.encode(info).decode(),
            warnings=[*ignored(fields), *_warnings(results)],
        )
    )


def _info(
    fields: TextFields,
    settled: GenerationRequest,
    results: Sequence[ImageResult],
    *,
    interrupted: bool,
) -> Info:
    first = settled.rows[0]
    made = {result.row_id for result in results}
    rows = [row for row in settled.rows if row.id in made]
    sampler, spacing = sampler_and_spacing(first.scheduler)
    return Info(
        prompt=tagged_prompt(first),
        all_prompts=[tagged_prompt(row) for row in rows],
        negative_prompt=first.negative_prompt,
        all_negative_prompts=[row.negative_prompt for row in rows],
        seed=first.seed,
        all_seeds=[row.seed for row in rows],
        all_subseeds=[-1 for _ in rows],
        width=first.width,
        height=first.height,
        sampler_name=sampler,
        cfg_scale=first.guidance_scale,
        steps=first.num_inference_steps,
        batch_size=fields.batch_size or 1,
        sd_model_name=first.model,
        denoising_strength=first.strength,
        extra_generation_params={} if spacing is None else {"Schedule type": spacing},
        infotexts=[infotext(row) for row in rows],
        job_timestamp=time.strftime(TIMESTAMP),
        interrupted=interrupted,
    )


def _warnings(results: Sequence[ImageResult]) -> list[str]:
    """What the rows have to tell, each sentence once."""
    return list(dict.fromkeys(told for result in results for told in result.warnings))


def _echo(fields: TextFields) -> TextFields:
    """The request again; its pictures only for clients that say so."""
    if isinstance(fields, ImageFields) and not fields.include_init_images:
        return msgspec.structs.replace(fields, init_images=None, mask=None)
    return fields
