"""What may be configured of the ledger."""

import math

import msgspec


class JobsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much the ledger keeps, and for how long."""

    max_jobs: int = 1000
    """Jobs kept, over or not. While none of them is over, a new one is answered with 429."""
    max_kept_mb: float = 256.0
    """Pictures kept of jobs that are over, in megabytes of 1,000,000 bytes; the oldest go first."""
    max_input_mb: float = 512.0
    """Input images of jobs that are not over, in megabytes; beyond it a new job gets 429."""
    patience_s: float = 600.0
    """How long a job waits for room at the models before it fails."""
    keep_s: float = 600.0
    """How long a job that is over can be asked for."""
    journal: str = ""
    """A folder, or for a fleet an fsspec location such as `s3://bucket/jobs`, that the next ledger
    goes on from when this one's replica is replaced or lost. Empty: its jobs end with it."""

    def __post_init__(self) -> None:
        """Refuses what cannot work, with the field, the value and the cure."""
        if self.max_jobs < 1:
            raise ValueError(f"max_jobs is {self.max_jobs}: it must be at least 1")
        for name in ("max_kept_mb", "max_input_mb", "patience_s", "keep_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name):g}: use a number above 0")
