"""A row's two prompts, as its lanes will read them."""

from dataclasses import dataclass

from deployments.diffusion.chunks import MAX_WEIGHT, Chunk, Tokens
from deployments.diffusion.families.family import Family, Side
from deployments.requests import Row


@dataclass(frozen=True, slots=True)
class RowText:
    """Chunks of the prompt and, as many, of the negative prompt."""

    prompt: tuple[Chunk, ...]
    negative: tuple[Chunk, ...]
    """Empty for a row that is never guided, which does not read it."""
    warnings: tuple[str, ...]


def read_prompts(row: Row, family: Family, max_chunks: int) -> RowText:
    """Both prompts in at most `max_chunks` chunks; beyond it they are cut off, with a warning.

    Both lanes of a row share a forward, so the shorter text is filled up with empty chunks.
    """

    def read(text: str, side: Side) -> Tokens:
        return family.tokenize(
            text, weighting=row.prompt_weighting, max_chunks=max_chunks, side=side
        )

    def filled(tokens: Tokens, side: Side, length: int) -> tuple[Chunk, ...]:
        return tokens.chunks + read("", side).chunks * (length - len(tokens.chunks))

    prompt = read(row.prompt, "prompt")
    warnings = _warnings("prompt", prompt)
    if row.guidance_scale <= 1 or not family.has_second_lane:
        if not family.has_second_lane:
            warnings += _not_followed(row)
        return RowText(prompt=prompt.chunks, negative=(), warnings=tuple(warnings))
    negative = read(row.negative_prompt, "negative")
    warnings += _warnings("negative_prompt", negative)
    length = max(len(prompt.chunks), len(negative.chunks))
    return RowText(
        prompt=filled(prompt, "prompt", length),
        negative=filled(negative, "prompt" if row.negative_prompt else "negative", length),
        warnings=tuple(warnings),
    )


def _not_followed(row: Row) -> list[str]:
    """What a model whose guidance takes no second lane has no use for."""
    plain = {
        "negative_prompt": "",
        "guidance_start": 0.0,
        "guidance_end": 1.0,
        "guidance_rescale": 0.0,
    }
    unread = [name for name, value in plain.items() if getattr(row, name) != value]
    if not unread:
        return []
    return [f"{', '.join(unread)} not followed: this model has no lane without the prompt"]


def _warnings(name: str, tokens: Tokens) -> list[str]:
    warnings = []
    if tokens.unweighted:
        warnings.append(f"{name} has weights: this model gives none, and read it without")
    if tokens.dropped:
        warnings.append(
            f"{name} has {tokens.length} tokens and at most {tokens.length - tokens.dropped} are "
            f"read here: the last {tokens.dropped} were dropped"
        )
    if tokens.heaviest > MAX_WEIGHT:
        warnings.append(
            f"{name} has a weight of {tokens.heaviest:g}: weights are kept between "
            f"-{MAX_WEIGHT:g} and {MAX_WEIGHT:g}"
        )
    return warnings
