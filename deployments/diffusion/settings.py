"""What may be configured of one model's engine."""

import math
import re
from typing import Literal

import msgspec

from deployments.diffusion.order import AGEING_STEPS
from deployments.diffusion.switches.combinations import check_combinations
from deployments.requests import MAX_ADAPTER_SCALE

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "bfloat16", "float16"]

PACED = "paced"
"""The source that is no model."""
CompileMode = Literal["off", "default", "reduce-overhead", "max-autotune"]
Attention = Literal["sdpa", "sliced", "plain", "xformers", "flash", "sage"]
Offload = Literal["none", "model", "sequential", "group"]
Quantization = Literal["none", "int8", "int8-dynamic", "fp8", "fp8-dynamic"]


class Adapter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A LoRA that requests may ask for."""

    name: str
    """The name by which they do."""
    source: str
    """A .safetensors file in diffusers' or Kohya's format, or a folder with one."""
    default_scale: float = 1.0
    """How strongly it acts where a request does not say; 1 is as it was trained."""

    def __post_init__(self) -> None:
        """Refuses what cannot work, with the field, the value and the cure."""
        name = r"[A-Za-z0-9_]([A-Za-z0-9 ._()+-]{0,126}[A-Za-z0-9._()+-])?"
        if not re.fullmatch(name, self.name):
            raise ValueError(
                f"name is {self.name!r}: use 1 to 128 letters, digits, blanks or '._()+-', the "
                "first a letter, a digit or '_', the last no blank"
            )
        if not self.source:
            raise ValueError("source is empty: name a .safetensors file, or a folder with one")
        if not abs(self.default_scale) <= MAX_ADAPTER_SCALE:
            raise ValueError(
                f"default_scale is {self.default_scale:g}: use a number from "
                f"{-MAX_ADAPTER_SCALE:g} to {MAX_ADAPTER_SCALE:g}"
            )


class DiffusionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model and how its engine runs it."""

    id: str
    """The name by which requests ask for it."""
    source: str
    """`embedded` (the model that ships with the package), a diffusers folder, a .safetensors file,
    or a hub id."""
    pace: str = ""
    """For the source `paced`, which waits as a GPU would and computes nothing: a file of step
    times, as those in configs/paces."""
    source_config: str = ""
    """For a .safetensors file: a diffusers folder of its family, for configs and tokenizers.
    Parts whose weights it has are taken from it, as FLUX's text encoders."""
    variant: str = ""
    """Of the weight files, as `fp16` in `model.fp16.safetensors`; empty prefers those without."""
    allow_pickle: bool = False
    """Whether .bin files may be read where there are no safetensors: they can run any code."""
    t5: bool = True
    """Whether Stable Diffusion 3 gets its third text encoder, which is larger than the rest."""
    memory_fraction: float = 1.0
    """The share of the GPU's memory that the process may take. Under Serve it is `num_gpus`, where
    that is below 1."""
    adapters: tuple[Adapter, ...] = ()
    """LoRA adapters that requests may ask for; each is read when one first does, and with
    `compile` also at the start, to learn its size."""
    max_adapters: int = 2
    """How many adapters one request may combine. A compiled step has room for as many, and
    computes that room also for rows without any."""
    max_adapters_loaded: int = 8
    """Adapters kept in main memory, beside those that rows need; the last used stay."""
    device: Device = "auto"
    """`auto` takes CUDA where there is one."""
    dtype: Dtype = "float32"
    compile: CompileMode | bool = "off"
    """torch.compile of the step; every lane bucket of every declared size is compiled before the
    replica is ready, and no other size is offered. (YAML reads a bare `off` as false.)"""
    compile_scope: Literal["whole", "regional"] = "whole"
    """`regional` compiles the blocks that the denoiser repeats: sooner ready, slower to run."""
    channels_last: bool = True
    """How convolutions lie in memory: faster, and the same pictures but for rounding."""
    attention: Attention = "sdpa"
    """How the denoiser attends. `sdpa` is torch's own, and the least memory of all. `plain` holds
    all scores at once, `sliced` those of half the heads of one lane (both: UNets only). `xformers`,
    `flash` and `sage` need their packages and a GPU; sage computes in 8 bits."""
    fused_qkv: bool = False
    """Query, key and value of a layer by one matrix product."""
    quantization: Quantization = "none"
    """Of the linear layers in the denoiser's attention blocks, by torchao: weights alone, or with
    `-dynamic` what enters the layers too. Lossy. fp8 needs a GPU of Ada, Hopper or newer. Of time
    it gains only with `compile`: eager, a layer takes several kernels, and waits for the GPU."""
    deep_cache: int = 1
    """The inner blocks of a UNet run at every so many calls of a row; in between, what they made
    last is used again. 1 runs them always. Lossy."""
    first_block_cache: float = 0.0
    """The blocks of a transformer run when what its first one adds has changed by more than this
    share since they last ran; else what they added is used again. 0 runs them always. Lossy."""
    vae_tiling: bool = False
    """Decodes and encodes what is larger than the native square in overlapping tiles of it: a
    bounded memory at any size, for faint differences between tiles and work done twice."""
    vae_slicing: bool = False
    """Decodes and encodes one picture at a time: the memory of one, and none gained by batching."""
    tiny_vae: str = ""
    """A folder of an AutoencoderTiny for the same latents, as TAESD's."""
    tiny_vae_for: Literal["previews", "everything"] = "previews"
    """Where it is used: sharper and larger previews, or in the place of the model's own: lossy."""
    offload: Offload = "none"
    """Keeps weights in the host's memory while they are not needed (GPU only). `model` moves whole
    parts, and lets rows start only when all others are done; `group` streams layers ahead of their
    use; `sequential` moves each as it is used: the least memory, and by far the slowest."""
    sizes: tuple[str, ...] = ()
    """Declared sizes as `1024x768`, width first; the first is the default. Empty declares the
    native square. Without `compile` other sizes are offered too, from half the native side to twice
    that, or up to the largest declared side."""
    lane_buckets: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Lanes of one forward, measured at the start; the largest is the most that ever run. A
    compiled step is padded to the next."""
    knee_margin: float = 0.05
    """Lanes are added only while images per second still rise by more than this share."""
    strict: bool = False
    """Pads every forward to the largest bucket, and encodes and decodes one picture at a time, so
    that a picture is the same to the last bit whatever ran beside it. Costs throughput."""
    cache_folder: str = "~/.cache/stepwise"
    """Where measured curves and compiled kernels are kept between starts."""
    threads: int = 0
    """torch's CPU threads; 0 takes every core (Ray would set it from `num_cpus`)."""
    max_queue_s: float = 30.0
    """Seconds of measured work that may wait here; past it a row is answered with `Requeue`."""
    ageing_steps: float = AGEING_STEPS
    """A row that has waited for as long as so many full steps take is as urgent as a new one with
    half its work. A very large number always prefers the row with the least work left, and starves
    long ones; a very small one prefers the row that came first."""
    default_steps: int | None = None
    """None takes the family's, as 20 of Stable Diffusion and 28 of FLUX.1 dev."""
    max_steps: int = 150
    default_guidance: float | None = None
    """None takes the family's, as 7.5 of Stable Diffusion and 3.5 of FLUX.1 dev."""
    default_strength: float = 0.75
    default_scheduler: str = ""
    """Class name of a diffusers scheduler; empty takes the one in the model's own config."""
    max_images: int = 10
    """Largest `n` of one request."""
    stalled_after_s: float = 300.0
    """A step that takes longer makes the replica unhealthy, and Serve replaces it."""
    codec_threads: int = 2
    """Threads that turn finished pixels into PNG, JPEG or WebP, never the engine's own."""

    def __post_init__(self) -> None:
        """Refuses what cannot work, with the field, the value and the cure."""
        buckets = self.lane_buckets
        if not buckets or list(buckets) != sorted(set(buckets)) or buckets[0] < 1:
            raise ValueError(f"lane_buckets is {buckets}: list rising positive numbers, as 1, 2, 4")
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", self.id):
            raise ValueError(f"id is {self.id!r}: use 1 to 64 letters, digits, '.', '_' or '-'")
        if (self.source == PACED) != bool(self.pace):
            raise ValueError(
                f"source is {self.source!r} and pace {self.pace!r}: give both for an engine that "
                "only keeps a GPU's time, or neither"
            )
        if self.source == PACED and self.adapters:
            raise ValueError("source is 'paced' and there are adapters: it has no layers for them")
        for size in self.sizes:
            if not re.fullmatch(r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}", size):
                raise ValueError(f"sizes has {size!r}: write a size as 1024x768")
        for name in ("knee_margin", "first_block_cache"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name):g}: use 0 or more")
        for name in ("max_queue_s", "ageing_steps", "stalled_after_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name):g}: use a number above 0")
        if self.default_guidance is not None and not 0 <= self.default_guidance < math.inf:
            raise ValueError(f"default_guidance is {self.default_guidance:g}: use 0 or more")
        if self.max_steps < 1:
            raise ValueError(f"max_steps is {self.max_steps}: it must be at least 1")
        if self.default_steps is not None and not 1 <= self.default_steps <= self.max_steps:
            raise ValueError(
                f"default_steps is {self.default_steps}: it must be within 1 and "
                f"max_steps ({self.max_steps})"
            )
        if not 0 < self.memory_fraction <= 1:
            raise ValueError(f"memory_fraction is {self.memory_fraction:g}: use 0 < share <= 1")
        if not 0 < self.default_strength <= 1:
            raise ValueError(
                f"default_strength is {self.default_strength:g}: use 0 < strength <= 1"
            )
        check_combinations(self)
        names = [adapter.name.casefold() for adapter in self.adapters]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"adapters has two of name {twice!r}: give each its own")
        for name in (
            "max_images",
            "codec_threads",
            "max_adapters",
            "max_adapters_loaded",
            "deep_cache",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.max_adapters_loaded < self.max_adapters:
            raise ValueError(
                f"max_adapters_loaded is {self.max_adapters_loaded}: one request may combine "
                f"max_adapters ({self.max_adapters}); keep as many, or lower max_adapters"
            )
        if self.threads < 0:
            raise ValueError(f"threads is {self.threads}: use 0 for every core, or a number")

    @property
    def compile_mode(self) -> str | None:
        """torch.compile's mode, or None for an eager denoiser."""
        if isinstance(self.compile, bool):
            return "default" if self.compile else None
        return None if self.compile == "off" else self.compile

    @property
    def padded_to(self) -> tuple[int, ...]:
        """The buckets to which lanes are padded; empty pads nothing."""
        if self.strict:
            return self.lane_buckets[-1:]
        return () if self.compile_mode is None else self.lane_buckets

    @property
    def declared_sizes(self) -> tuple[tuple[int, int], ...]:
        """`sizes` as numbers: width and height in pixels."""
        return tuple((int(w), int(h)) for w, h in (size.split("x") for size in self.sizes))

    @property
    def max_lanes(self) -> int:
        """Lanes that one forward may have."""
        return self.lane_buckets[-1]
