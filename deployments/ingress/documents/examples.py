"""Values that the documents show. Nothing in them depends on a model: no size, no scheduler."""

PROMPT = "a red house on snowy hills at night"
SEED = 42
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mM4YaMBAAL8AS3Bfun7AAAAAElFTkSuQmCC"
)
"""A PNG of one pixel, in base64."""
