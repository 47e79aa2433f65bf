"""A row's two prompts, as its lanes will read them."""

from dataclasses import dataclass

from deployments.diffusion.chunks import MAX_WEIGHT, Chunk, Tokens
from deployments.diffusion.families.family import Family
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

    def read(text: str) -> Tokens:
        return family.tokenize(text, weighting=row.prompt_weighting, max_chunks=max_chunks)

    read_by_name = {"prompt": read(row.prompt)}
    if row.guidance_scale > 1:
        read_by_name["negative_prompt"] = read(row.negative_prompt)
    length = max(len(tokens.chunks) for tokens in read_by_name.values())
    prompt, *negative = (
        tokens.chunks + read("").chunks * (length - len(tokens.chunks))
        for tokens in read_by_name.values()
    )
    return RowText(
        prompt=prompt,
        negative=negative[0] if negative else (),
        warnings=tuple(
            warning for name, tokens in read_by_name.items() for warning in _warnings(name, tokens)
        ),
    )


def _warnings(name: str, tokens: Tokens) -> list[str]:
    warnings = []
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
