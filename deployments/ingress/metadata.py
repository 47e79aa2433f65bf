"""How a picture was made, in the words of AUTOMATIC1111's web UI, which most tools read.

    a red house, snow
    Negative prompt: fog
    Steps: 20, Sampler: Euler a, CFG scale: 7.0, Seed: 42, Size: 512x512, Model: tiny

`deployments/imaging/metadata.py` puts such a text into files. Prompts can be private: the setting
`picture_metadata` says which routes do it.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from deployments.imaging.metadata import with_parameters
from deployments.requests import GenerationRequest, ImageResult, Row

SPACINGS = ("Karras", "Exponential", "Beta")
"""How a sampler's noise levels may be spaced: the end of its name here, a field of its own there.
"""

_MAX_SETTINGS = 10_000
"""Characters of a line that is looked through for settings."""
_SETTING = re.compile(r'(\w[\w \-/]{1,40}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def described(settled: GenerationRequest, results: Sequence[ImageResult]) -> list[ImageResult]:
    """The results, each file now saying how it was made; no pixel is touched."""
    rows = {row.id: row for row in settled.rows}
    return [_described(rows[result.row_id], result) for result in results]


def infotext(row: Row) -> str:
    """The text about one picture; its last line alone holds settings."""
    lines = [tagged_prompt(row)]
    if row.negative_prompt:
        lines.append(f"Negative prompt: {row.negative_prompt}")
    settings = _settings(row).items()
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in settings))
    return "\n".join(lines)


def tagged_prompt(row: Row) -> str:
    """The prompt as the web UI has it, where adapters are named in it."""
    return row.prompt + "".join(f" <lora:{use.name}:{use.scale}>" for use in row.adapters)


def parsed(text: str) -> dict[str, str]:
    """What `infotext` and its like wrote: `Prompt`, `Negative prompt`, then the settings."""
    lines = text.strip().split("\n")
    settings: dict[str, str] = {}
    if len(lines[-1]) <= _MAX_SETTINGS:
        found = _SETTING.findall(lines[-1])
        # The web UI's own rule: fewer are a sentence that has a colon in it.
        if len(found) >= 3:
            settings = {name: _unquoted(value) for name, value in found}
            lines.pop()
    prompt, _, negative = ("\n" + "\n".join(lines)).partition("\nNegative prompt:")
    return {"Prompt": prompt.strip(), "Negative prompt": negative.strip(), **settings}


def sampler_and_spacing(scheduler: str) -> tuple[str, str | None]:
    """`DPM++ 2M Karras` is the sampler `DPM++ 2M` with the spacing `Karras`."""
    sampler, _, spacing = scheduler.rpartition(" ")
    return (sampler, spacing) if spacing in SPACINGS else (scheduler, None)


def _described(row: Row, result: ImageResult) -> ImageResult:
    content = with_parameters(result.content, result.output_format, infotext(row))
    return replace(result, content=content)


def _settings(row: Row) -> dict[str, object]:
    sampler, spacing = sampler_and_spacing(row.scheduler)
    settings: dict[str, object] = {"Steps": row.num_inference_steps, "Sampler": sampler}
    if spacing is not None:
        settings["Schedule type"] = spacing
    settings |= {
        "CFG scale": row.guidance_scale,
        "Seed": row.seed,
        "Size": f"{row.width}x{row.height}",
        "Model": row.model,
    }
    if row.strength is not None:
        settings["Denoising strength"] = row.strength
    if row.guidance_rescale:
        settings["CFG rescale"] = row.guidance_rescale
    if (row.guidance_start, row.guidance_end) != (0.0, 1.0):
        settings["CFG from"], settings["CFG to"] = row.guidance_start, row.guidance_end
    return settings


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(",:\n") else text


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value.strip()
    try:
        return str(json.loads(value))
    except json.JSONDecodeError:
        return value  # somebody else's idea of a quotation
