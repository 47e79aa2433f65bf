"""What an engine counts about itself."""

from dataclasses import dataclass


@dataclass(slots=True)
class EngineStats:
    """Counters since the engine was made; gauges where it says so."""

    steps: int = 0
    """Forwards."""
    row_steps: int = 0
    """Rows that shared those forwards: row_steps / steps is the mean batch."""
    lane_steps: int = 0
    max_rows: int = 0
    """The most rows that ever shared one forward."""
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    requeued: int = 0
    running: int = 0
    """Gauge: rows in a batch now."""
    waiting: int = 0
    """Gauge: rows in the queue now."""
    pending_s: float = 0.0
    """Gauge: seconds of measured work that wait."""
