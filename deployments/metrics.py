"""Every metric of the service: its name, kind, unit, labels, what it says and what to do about it.

Plain data: the rooms publish it, docs/metrics.md is written from it, and the dashboard and the
alerts are tested against it. It knows neither Ray nor Prometheus. Ray exports each metric as `ray_`
and its name, with the labels `deployment`, `replica` and `application` besides those given here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

PUBLISH_EVERY_S = 2.0
"""Ray collects every 10 s, and forgets a gauge that was not set in between."""

Kind = Literal["counter", "gauge", "histogram"]

ANY: tuple[str, ...] = ()
"""A label whose values depend on the configuration."""

_WAITS_S = (
    0.01,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.0,
    3.0,
    5.0,
    7.5,
    10.0,
    15.0,
    20.0,
    30.0,
    60.0,
    120.0,
)
_PICTURES_S = (0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Metric:
    """One row of the table."""

    name: str
    kind: Kind
    unit: str
    help: str
    advice: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Their values, or `ANY`."""
    buckets: tuple[float, ...] = ()
    """Upper bounds, of a histogram. Ray keeps no more of an observation than its bucket."""

    @property
    def exported(self) -> str:
        """The name in Prometheus; a histogram's series end in _bucket, _sum and _count besides."""
        return f"ray_{self.name}"

    def combinations(self, known: Mapping[str, tuple[str, ...]]) -> Iterator[dict[str, str]]:
        """Its labels with all values that they can have, as far as these are `known`."""
        values = [known.get(label, each) for label, each in self.labels.items()]
        for chosen in product(*values):
            yield dict(zip(self.labels, chosen, strict=True))


ROWS = Metric(
    name="stepwise_rows",
    kind="gauge",
    unit="rows",
    labels={"model": ANY, "state": ("arriving", "waiting", "running")},
    help="Pictures in a replica now: on their way to the queue, in it, or in the running batch.",
    advice="Many waiting on all replicas: add replicas. On one of several: look at its step age. "
    "Many arriving: LoRA files are being read; raise max_adapters_loaded.",
)
ROWS_ANSWERED = Metric(
    name="stepwise_rows_answered_total",
    kind="counter",
    unit="rows",
    labels={
        "model": ANY,
        "outcome": (
            "done",
            "cancelled",
            "requeued",
            "refused",
            "adapter-failed",
            "failed",
            "lost",
        ),
    },
    help="Rows that left a replica. requeued: its queue was full; refused: a sampler that cannot "
    "run these steps; failed: the picture itself cannot be made; lost: a fault here.",
    advice="failed: a prompt or size that this dtype or memory cannot serve, by the log. lost: "
    "read the replica's log at that time. adapter-failed: mend the file; it is read again. "
    "Many cancelled: clients give up; compare their timeouts with stepwise_row_seconds.",
)
QUEUE_WAIT = Metric(
    name="stepwise_queue_wait_seconds",
    kind="histogram",
    unit="seconds",
    labels={"model": ANY},
    buckets=_WAITS_S,
    help="From a row's arrival at a replica until it is let into the running batch.",
    advice="Over target_wait_s for long: raise max_replicas, or look why no replica is added "
    "(GPUs pending, start time). Only short rows wait: see stepwise_held_back_steps_total.",
)
FIRST_STEP = Metric(
    name="stepwise_first_step_seconds",
    kind="histogram",
    unit="seconds",
    labels={"model": ANY},
    buckets=_WAITS_S,
    help="From a row's arrival until its first model call is done: a stream's first sign of life.",
    advice="Far above the queue's wait: prompts or input images take long to encode, or adapters "
    "change often; see stepwise_engine_seconds_total.",
)
ROW_TIME = Metric(
    name="stepwise_row_seconds",
    kind="histogram",
    unit="seconds",
    labels={"model": ANY},
    buckets=_PICTURES_S,
    help="From a row's arrival until its picture is encoded.",
    advice="High while the queue's wait is low: rows are long, or steps slow; see "
    "stepwise_step_seconds and what the clients ask for.",
)
STEP_TIME = Metric(
    name="stepwise_step_seconds",
    kind="histogram",
    unit="seconds",
    labels={"model": ANY},
    buckets=(
        0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0,
        30.0,
    ),
    help="One forward of the running batch, with the samplers' arithmetic.",
    advice="Rises at the same lanes: the GPU is shared, hot or throttled, or on a CPU other "
    "processes take its cores. Few very long ones: recompiles or a step split for memory.",
)  # fmt: skip
STEP_LANES = Metric(
    name="stepwise_step_lanes",
    kind="histogram",
    unit="lanes",
    labels={"model": ANY},
    buckets=(1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0),
    help="Lanes that rows took of one forward, a guided row two.",
    advice="Far below stepwise_capacity_lanes while rows wait: they differ in size, text length "
    "or adapters and cannot share; offer fewer sizes, or route adapters to replicas of their own.",
)
LANE_CALLS = Metric(
    name="stepwise_lane_calls_total",
    kind="counter",
    unit="lanes",
    labels={"model": ANY, "of": ("rows", "padding")},
    help="Lanes of all forwards: those of rows, and those that only filled a batch up to a "
    "compiled size.",
    advice="Much padding at low load is normal. At high load declare more lane_buckets.",
)
ENGINE_TIME = Metric(
    name="stepwise_engine_seconds_total",
    kind="counter",
    unit="seconds",
    labels={
        "model": ANY,
        "phase": ("idle", "admit", "encode", "choose", "model", "report", "decode"),
    },
    help="Where the engine's thread spends its time: without work, letting rows in, encoding "
    "prompts and images, choosing a batch and its adapters, in the model, on progress and "
    "previews, decoding.",
    advice="Only model is what the GPU is bought for. Much decode: tiny_vae_for or another "
    "replica; report: fewer previews; choose: adapters change often; admit: very many rows wait.",
)
WORK = Metric(
    name="stepwise_work_seconds_total",
    kind="counter",
    unit="seconds",
    labels={"model": ANY},
    help="Work done, in seconds of full batches. Its rate is a replica's load, which the scaling "
    "policy reads: 1 is a replica that has no more to give.",
    advice="Above max_load on all replicas and none is added: see Serve's log of the controller "
    "and the autoscaler's of the cluster.",
)
PENDING = Metric(
    name="stepwise_pending_work_seconds",
    kind="gauge",
    unit="seconds",
    labels={"model": ANY},
    help="Measured work that waits in a replica, in seconds of full batches; a row beyond "
    "max_queue_s is given back.",
    advice="Near max_queue_s: 429s are next. On one replica only: it is slower than the others.",
)
CAPACITY = Metric(
    name="stepwise_capacity_lanes",
    kind="gauge",
    unit="lanes",
    labels={"model": ANY},
    help="Lanes that run at once: the knee of the measured curve, or fewer after memory ran out.",
    advice="Differs between equal replicas: one was measured on a busy machine; restart it, since "
    "the faster of two measurements counts. Fell while it ran: see stepwise_splits_total.",
)
COMPILES = Metric(
    name="stepwise_compiles_total",
    kind="counter",
    unit="graphs",
    labels={"model": ANY, "when": ("warm-up", "serving")},
    help="Graphs that torch.compile made, before the replica was ready or after it.",
    advice="Any while serving held up every row for as long as it took, up to minutes: report the "
    "request's size and options; until then restrict sizes, or set compile to off.",
)
PROMPTS = Metric(
    name="stepwise_prompt_chunks_total",
    kind="counter",
    unit="chunks",
    labels={"model": ANY, "cache": ("hit", "miss")},
    help="Pieces of prompts that joined a batch, whose embeddings were kept or had to be computed.",
    advice="Nothing by itself: a low share of hits only means that prompts differ.",
)
SPLITS = Metric(
    name="stepwise_splits_total",
    kind="counter",
    unit="splits",
    labels={"model": ANY, "cause": ("memory", "fault")},
    help="Work on several rows that was repeated in halves, since memory ran out or one of them "
    "raised.",
    advice="memory: lower the last of lane_buckets, give the replica more of the GPU, or see who "
    "else is on it. fault: the log names the row.",
)
PARKED = Metric(
    name="stepwise_rows_parked_total",
    kind="counter",
    unit="rows",
    labels={"model": ANY},
    help="Running rows that went back to the queue, for a more urgent one or for want of memory.",
    advice="Costs no work. Very many: short and long rows compete; give one kind its own model "
    "entry.",
)
HELD_BACK = Metric(
    name="stepwise_held_back_steps_total",
    kind="counter",
    unit="steps",
    labels={
        "model": ANY,
        "reason": (
            "no lane free",
            "wider than the lanes free",
            "no lanes free for its size",
            "wider than the capacity, to run alone",
            "others are far more urgent",
        ),
    },
    help="Steps at which rows waited, by why the most urgent of them did not start.",
    advice="no lane free: plain load. wider or its size: large pictures hold up the rest; give "
    "them their own model entry, or more memory.",
)
PREVIEWS = Metric(
    name="stepwise_previews_total",
    kind="counter",
    unit="previews",
    labels={"model": ANY},
    help="Previews made for streams, jobs and progress.",
    advice="See phase report of stepwise_engine_seconds_total for what they cost.",
)
ETA_RATIO = Metric(
    name="stepwise_eta_ratio",
    kind="histogram",
    unit="ratio",
    labels={"model": ANY},
    buckets=(0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0),
    help="How long a row took, over how long it was told on arrival that it would take.",
    advice="Median far above 1: work costs more than was measured, so Retry-After, queue bound "
    "and scaling are too hopeful; measure anew (delete cache_folder/curves). A tail above 1 is "
    "later, more urgent rows.",
)
CODEC_WAITS = Metric(
    name="stepwise_codec_waits_total",
    kind="counter",
    unit="waits",
    labels={"model": ANY},
    help="How often the engine's thread waited since too many pictures were to be encoded.",
    advice="Any: raise codec_threads, and num_cpus with it.",
)
SWITCHES = Metric(
    name="stepwise_adapter_switches_total",
    kind="counter",
    unit="switches",
    labels={"model": ANY},
    help="Changes of the LoRAs that act on the denoiser, between two steps.",
    advice="Nearly one a step: too many adapters share a replica; add replicas or split the model "
    "entry.",
)
ADAPTER_READS = Metric(
    name="stepwise_adapter_reads_total",
    kind="counter",
    unit="reads",
    labels={"model": ANY},
    help="LoRAs read from their files, while the rows that ask for them arrive.",
    advice="Goes on rising though the same LoRAs are asked for: raise max_adapters_loaded.",
)
STEP_AGE = Metric(
    name="stepwise_step_age_seconds",
    kind="gauge",
    unit="seconds",
    labels={"model": ANY},
    help="How long the engine's step in flight has taken so far; 0 between steps.",
    advice="A minute: the device hangs or something compiles. At stalled_after_s Serve replaces "
    "the replica; look for Xid errors of the GPU.",
)

IMAGES = Metric(
    name="stepwise_images_total",
    kind="counter",
    unit="images",
    labels={"model": ANY, "status": ("200", "400", "429", "499", "500", "503")},
    help="Pictures that clients asked for, by the HTTP status that each met; 499 left before. "
    "Without those of jobs, and of requests that were refused before a model was known.",
    advice="429: all replicas are full, or a key is at its limit. 503: no replica, or rows were "
    "lost. 500: a bug or a broken LoRA; the log has it by request id.",
)
REQUEST_TIME = Metric(
    name="stepwise_request_seconds",
    kind="histogram",
    unit="seconds",
    labels={"model": ANY},
    buckets=_PICTURES_S,
    help="From the moment that a request is understood until all of its pictures are there, of "
    "those that succeed.",
    advice="Far above stepwise_row_seconds: rows are offered again and again, or input images wait "
    "for imaging.",
)
REQUEST_BYTES = Metric(
    name="stepwise_request_bytes_total",
    kind="counter",
    unit="bytes",
    labels={"route": ANY},
    help="Bodies received, by route.",
    advice="Much of it: more ingress replicas; each needs max_body_mb for every request at once.",
)
RESPONSE_BYTES = Metric(
    name="stepwise_response_bytes_total",
    kind="counter",
    unit="bytes",
    labels={"route": ANY},
    help="Bodies sent, by route.",
    advice="Near the network's limit: Accept: image/png or webp, or response_format url from an "
    "object store.",
)
RETRIES = Metric(
    name="stepwise_row_retries_total",
    kind="counter",
    unit="rows",
    labels={"model": ANY, "reason": ("full", "lost")},
    help="Rows offered to a replica again, since one was full or died.",
    advice="full: load is at the limit of what all replicas queue. lost: replicas die; see their "
    "nodes, and memory.",
)

PREPARED = Metric(
    name="stepwise_images_prepared_total",
    kind="counter",
    unit="images",
    labels={"outcome": ("done", "refused", "full", "cancelled", "failed")},
    help="Input images with their masks. refused: not an image, or too large; full: too many "
    "waited.",
    advice="full: more imaging replicas or num_cpus. failed: a bug; the log has it.",
)
PREPARE_TIME = Metric(
    name="stepwise_prepare_seconds",
    kind="histogram",
    unit="seconds",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
    help="On a thread: an input image decoded, resized and normalised.",
    advice="Rises: larger images (lower max_megapixels), or more threads than cores.",
)
PREPARE_WAITING = Metric(
    name="stepwise_prepare_waiting",
    kind="gauge",
    unit="images",
    help="Input images that wait for a thread of an imaging replica.",
    advice="Near max_waiting: more imaging replicas or num_cpus.",
)

JOBS = Metric(
    name="stepwise_jobs",
    kind="gauge",
    unit="jobs",
    labels={"state": ("waiting", "running")},
    help="Jobs that are not over.",
    advice="Rises for hours: jobs come faster than they are made. At max_jobs new ones get 429.",
)
JOBS_ENDED = Metric(
    name="stepwise_jobs_ended_total",
    kind="counter",
    unit="jobs",
    labels={"state": ("succeeded", "failed", "cancelled")},
    help="Jobs that are over.",
    advice="failed: GET /v1/jobs/ID says why; many at once: no room for patience_s, or a model is "
    "down.",
)

DIFFUSION = (
    ROWS, ROWS_ANSWERED, QUEUE_WAIT, FIRST_STEP, ROW_TIME, STEP_TIME, STEP_LANES, LANE_CALLS,
    ENGINE_TIME, WORK, PENDING, CAPACITY, COMPILES, PROMPTS, SPLITS, PARKED, HELD_BACK, PREVIEWS,
    ETA_RATIO, CODEC_WAITS, SWITCHES, ADAPTER_READS,
    STEP_AGE,
)  # fmt: skip
INGRESS = (IMAGES, REQUEST_TIME, REQUEST_BYTES, RESPONSE_BYTES, RETRIES)
IMAGING = (PREPARED, PREPARE_TIME, PREPARE_WAITING)
LEDGER = (JOBS, JOBS_ENDED, RETRIES)

TABLE: Mapping[str, tuple[Metric, ...]] = {
    "diffusion": DIFFUSION,
    "ingress": INGRESS,
    "imaging": IMAGING,
    "jobs": LEDGER,
}
"""By the room that publishes them."""
