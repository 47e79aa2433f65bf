"""A call in the service's own terms.

`quality` is a preset of steps, a multiple of what the model's card calls its default:

    low 0.5, medium 1 (also auto and standard), high 1.5 (also hd), xhigh 2, max 3

never below one step nor above the card's limit. `num_inference_steps`, if sent, wins.
"""

from deployments.ingress.openai.fields import ImagesCall, Quality, VariationFields
from deployments.ingress.options import picture_params
from deployments.requests import GenerationParams, ModelCard

_LEVELS = {"auto": "medium", "standard": "medium", "hd": "high"}
_STEPS_OF_LEVEL = {"low": 0.5, "medium": 1.0, "high": 1.5, "xhigh": 2.0, "max": 3.0}


def to_params(call: ImagesCall, card: ModelCard) -> GenerationParams:
    """What the call asks for; `quality` needs the card to become steps."""
    fields = call.fields
    params = GenerationParams(
        prompt=call.prompt,
        prompt_optional=isinstance(fields, VariationFields),
        model=card.id,
        num_inference_steps=_steps(fields.quality, card),
        image=call.image,
        mask=call.mask,
        mask_polarity="transparent",
    )
    return picture_params(fields, params)


def level(quality: Quality | None) -> str:
    """The quality under the name that answers give it."""
    wanted = quality or "auto"
    return _LEVELS.get(wanted, wanted)


def _steps(quality: Quality | None, card: ModelCard) -> int:
    steps = round(card.default_steps * _STEPS_OF_LEVEL[level(quality)])
    return min(max(steps, 1), card.max_steps)
