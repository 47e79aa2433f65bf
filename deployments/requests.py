"""What travels between rooms. Start the tour of the code here.

A client's wish arrives as `GenerationParams`, in which nothing is settled. The ingress settles it
against the model's `ModelCard` into one `GenerationRequest`: rows, each a picture to make. A
`Row` carries everything its picture depends on, so a row can be run again anywhere and gives
the same picture. Input images travel beside the rows as a `PreparedImage`.

This module knows no Ray, no torch and no HTTP; everything in it is plain, frozen and picklable.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deployments.errors import StepwiseError

OutputFormat = Literal["png", "jpeg", "webp"]

MaskPolarity = Literal["transparent", "white", "black"]
"""Which mask pixels are to be painted: OpenAI says transparent ones, AUTOMATIC1111 white ones, or
black ones when its mask is inverted."""

ResizeMode = Literal["stretch", "crop", "pad"]
"""How an input image of other proportions becomes the picture's size: `crop` covers it, `pad` fits
into it and repeats the image's edge around."""

Priority = Literal["low", "normal", "high"]

MAX_SEED = 2**63 - 1

ANYBODY = "anonymous"
"""The caller where no API key is needed."""


MAX_ADAPTER_SCALE = 10.0
"""Of either sign: what some adapters are trained for turns about below 0."""


@dataclass(frozen=True, slots=True)
class AdapterWish:
    """An adapter that a client asked for. `None` leaves the scale to the model's card."""

    name: str
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class AdapterUse:
    """An adapter, and how strongly it acts; 1 is as it was trained."""

    name: str
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationParams:
    """What a client asked for. `None` leaves the choice to the model's card."""

    prompt: str
    prompt_optional: bool = False
    """Whether it may be empty: the variation of an image has none."""
    negative_prompt: str = ""
    prompt_weighting: bool = False
    model: str | None = None
    n: int = 1
    width: int | None = None
    height: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_rescale: float = 0.0
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    scheduler: str | None = None
    seed: int | None = None
    strength: float | None = None
    image: bytes | None = None
    mask: bytes | None = None
    mask_polarity: MaskPolarity = "transparent"
    mask_blur: float | None = None
    resize_mode: ResizeMode | None = None
    adapters: tuple[AdapterWish, ...] = ()
    output_format: OutputFormat = "png"
    output_compression: int = 100
    priority: Priority = "normal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One picture to make. The result is a pure function of the row and its prepared image."""

    id: str
    """The request's id, a dash and the row's number in it."""
    model: str
    prompt: str
    negative_prompt: str
    prompt_weighting: bool
    """Whether brackets in both prompts weigh words, as AUTOMATIC1111 has it: `(red:1.2)`."""
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    guidance_rescale: float
    """In 0..1: how much of the guided output's contrast is set back to the unguided one's."""
    guidance_start: float
    """Guidance is on from this fraction of the run ..."""
    guidance_end: float
    """... to this one, and off outside, where the row takes one lane. In 0..1, start < end."""
    scheduler: str
    """A name from the model's card, as `DPM++ 2M Karras` or the class name of a scheduler."""
    seed: int
    strength: float | None
    """How much of the input image is repainted, in (0, 1]; `None` without an input image."""
    output_format: OutputFormat
    output_compression: int
    """0 to 100; JPEG and WebP quality. PNG ignores it."""
    priority: Priority
    adapters: tuple[AdapterUse, ...] = ()
    """LoRA adapters that act on the model, ordered by name, none twice and none at scale 0."""

    @property
    def request_id(self) -> str:
        """Of the request that it belongs to: its `x-request-id`, by which logs are searched."""
        return self.id.rpartition("-")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareSpec:
    """What the diffusion deployment needs an input image to become."""

    width: int
    height: int
    latent_factor: int
    """Pixels per latent cell along each side."""
    mask_polarity: MaskPolarity
    mask_blur: float = 0.0
    """Standard deviation of the blur of the mask's edge, in pixels of the picture; 0 for none."""
    resize_mode: ResizeMode = "stretch"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedImage:
    """An input image on the model's grid, ready for the autoencoder."""

    pixels: NDArray[np.float32]
    """(3, height, width), in -1..1."""
    mask: NDArray[np.float32] | None
    """(height, width); 1 is painted anew, 0 is kept. `None` repaints everything."""
    latent_mask: NDArray[np.float32] | None
    """(height / latent_factor, width / latent_factor); 1 where any covered pixel is painted."""
    warnings: tuple[str, ...] = ()
    """What of the files was not used, in sentences for the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """A wish, fully resolved: from here on the answer depends on nothing else."""

    rows: tuple[Row, ...]
    image: bytes | None = None
    mask: bytes | None = None
    prepare: PrepareSpec | None = None
    """Set exactly when `image` is."""
    caller: str = ANYBODY
    """Whose limits it counts against: the name of an API key. No picture depends on it."""


class Phase(NamedTuple):
    """A part of the way, in seconds since its beginning: that of the row, or of the image."""

    name: str
    begun_s: float
    ended_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResult:
    """One finished picture, encoded."""

    row_id: str
    content: bytes
    output_format: OutputFormat
    width: int
    height: int
    seed: int
    model_calls: int
    """Forwards this picture took: not its steps (20 steps of Heun are 39 calls)."""
    queue_wait_s: float
    run_s: float
    phases: tuple[Phase, ...] = ()
    """Where the time since its arrival went, in order: `queue`, `steps`, `decode`, `encode`."""
    warnings: tuple[str, ...] = ()
    """What of the row was not followed to the letter, in sentences for the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a row is; the last one before the result says `decoding`."""

    row_id: str
    state: Literal["waiting", "running", "decoding"]
    call: int
    """Model calls done ..."""
    calls: int
    """... of so many."""
    queue_position: int
    """Rows that go first; 0 once it runs."""
    eta_s: float
    """Seconds until the picture, by the measured cost of a step."""
    preview: bytes | None = None
    """A small JPEG of what the picture looks like so far, when this call was one to show."""


JobState = Literal["waiting", "running", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job at one moment, as its caller may see it."""

    id: str
    state: JobState
    model: str
    created: float
    """Unix seconds."""
    images: int
    """Pictures asked for ..."""
    images_done: int
    """... and made so far."""
    call: int
    """Model calls done, of all pictures together ..."""
    calls: int
    """... of so many; 0 before the first row has told."""
    queue_position: int
    """Rows that go before the first of this job's that still waits; 0 once all run."""
    eta_s: float
    """Seconds until the last picture, by the measured cost of a step; 0 at the end."""
    preview: bytes | None
    """The newest preview, a small JPEG."""
    error: StepwiseError | None
    """Why it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a model can do; published by the diffusion deployment, kept by the ingress."""

    id: str
    created: int
    """Unix seconds at which the model was loaded."""
    family: str
    default_width: int
    default_height: int
    size_multiple: int
    """Width and height must be multiples of this."""
    min_side: int
    max_side: int
    latent_factor: int
    schedulers: tuple[str, ...]
    default_scheduler: str
    default_steps: int
    max_steps: int
    default_guidance: float
    max_guidance: float
    default_strength: float
    max_images: int
    """Largest `n` of one request."""
    sizes: tuple[tuple[int, int], ...] = ()
    """The only sizes offered (width, height); empty offers every size within the limits above."""
    adapters: tuple[AdapterUse, ...] = ()
    """The LoRA adapters there are, each at the scale it gets where a request names none."""
    max_adapters: int = 0
    """How many of them one request may combine."""
