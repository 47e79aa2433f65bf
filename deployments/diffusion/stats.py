"""What an engine counts about itself."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class EngineStats:
    """Counters since the engine was made; gauges where it says so."""

    steps: int = 0
    """Forwards."""
    row_steps: int = 0
    """Rows that shared those forwards: row_steps / steps is the mean batch."""
    lane_steps: int = 0
    padding_steps: int = 0
    """Lanes that filled those forwards up to a declared size."""
    done_s: float = 0.0
    """Work that the forwards have done, in seconds of full batches."""
    max_rows: int = 0
    """The most rows that ever shared one forward."""
    answers: Mapping[str, int] = field(default_factory=dict)
    """Rows by how they left, `answers.py` says how; each is counted once."""
    finished: int = 0
    cancelled: int = 0
    """Rows that were found to be cancelled, and whose lanes are free again."""
    failed: int = 0
    requeued: int = 0
    parked: int = 0
    """How often a running row went back to the queue: for a more urgent one, or for memory."""
    splits: int = 0
    """How often work on several rows was repeated in halves: for memory, or to find a bad row."""
    memory_splits: int = 0
    """Those of them that were for memory."""
    adapter_switches: int = 0
    """How often the denoiser's adapters were changed between two steps."""
    adapter_reads: int = 0
    """How often an adapter was read from its file."""
    previews: int = 0
    prompt_hits: int = 0
    prompt_misses: int = 0
    """Chunks of prompts whose embeddings were kept, and had to be computed."""
    codec_waits: int = 0
    """How often the engine's thread waited for a codec thread; raise `codec_threads` if ever."""
    held_back: Counter[str] = field(default_factory=Counter)
    """Why the most urgent waiting row did not start -> in how many steps."""
    phases: Mapping[str, float] = field(default_factory=dict)
    """What the engine's thread did -> for how many seconds."""
    compiles: int = 0
    """Graphs compiled until the engine was warm."""
    recompiles: int = 0
    """Gauge: graphs compiled since warm-up; anything but 0 is a shape that was not declared."""
    running: int = 0
    """Gauge: rows in a batch now."""
    waiting: int = 0
    """Gauge: rows in the queue now, and on their way to it."""
    arriving: int = 0
    """Gauge: those of them that are on their way."""
    pending_s: float = 0.0
    """Gauge: seconds of measured work that wait."""
    capacity_lanes: float = 0.0
    """Gauge: lanes that run at once."""
    step_age_s: float = 0.0
    """Gauge: how long the step in flight has taken."""
