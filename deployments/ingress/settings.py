"""What an operator may set for the ingress."""

import math
import re
from tempfile import gettempdir
from typing import Literal

import msgspec

_ORIGIN = re.compile(r"\*|https?://[^/\s]+")


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may ask. `python -m deployments.ingress.keys NAME` makes a key and its line."""

    mode: Literal["auto", "on", "off"] | bool = "auto"
    """`auto` asks for keys wherever some are configured, and refuses to start without any where
    other machines can reach the service; `off` asks for none even so."""
    keys_file: str = ""
    """Lines of NAME:HASH, the hash being the key's SHA-256 in hexadecimal; `#` begins a comment."""
    keys_env: str = ""
    """Name of an environment variable of the replicas that holds such lines, or the same with
    commas between them."""

    @property
    def chosen(self) -> Literal["auto", "on", "off"]:
        """The mode; a bare on or off is true or false in YAML."""
        if isinstance(self.mode, bool):
            return "on" if self.mode else "off"
        return self.mode


class LimitsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one API key may ask for, besides the models' own limits. 0 sets no limit."""

    max_rows_in_flight: int = 0
    """Pictures that wait or run at once, over all ingress replicas and with jobs."""
    rows_per_minute: float = 0.0
    """Pictures begun in a minute, which may be all at once."""
    max_n: int = 0
    """Pictures of one request."""
    max_steps: int = 0
    """Steps of one picture."""
    max_pixels: int = 0
    """Width times height of one picture."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}: use a number above 0, or 0 for no limit")

    @property
    def count_rows(self) -> bool:
        """Whether a caller's rows have to be counted."""
        return bool(self.max_rows_in_flight or self.rows_per_minute)

    @property
    def max_rows(self) -> int:
        """The most rows of one request that can ever pass; 0 for any number."""
        per_minute = max(int(self.rows_per_minute), 1) if self.rows_per_minute else 0
        return min(filter(None, (self.max_n, self.max_rows_in_flight, per_minute)), default=0)


class ResultsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where pictures lie that were asked for with `response_format: url`, and for how long."""

    folder: str = msgspec.field(default_factory=lambda: f"{gettempdir()}/stepwise-results")
    """A folder of this machine, for an ingress on one machine."""
    url: str = ""
    """Instead of the folder, for a fleet: an fsspec location, such as `s3://bucket/stepwise`."""
    keep_s: float = 3600.0
    """How long an address is good and its picture kept."""
    max_mb: float = 2000.0
    """Pictures kept, in megabytes of 1,000,000 bytes; the oldest go first."""
    secret: str = ""
    """Signs the addresses. Empty: drawn at the service's start, so that a restart ends them all, as
    does a change of its config."""
    secret_env: str = ""
    """Instead of it, an environment variable of the ingress replicas that holds it."""

    def __post_init__(self) -> None:
        if self.secret and self.secret_env:
            raise ValueError("results has a secret and a secret_env: keep one of them")
        for name in ("keep_s", "max_mb"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a finite number above 0, got {value}")


class IngressSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits that hold before any model is asked. Checked once, when they are made."""

    max_body_mb: float = 60.0
    """Largest request body, in megabytes of 1,000,000 bytes. OpenAI allows images of 50 MB."""
    max_megapixels: float = 32.0
    """Largest input image or mask, by its header, before a pixel of it is decoded."""
    default_response_format: Literal["b64_json", "url"] = "b64_json"
    """Of OpenAI requests that name none: some clients send nothing and read an address."""
    results: ResultsSettings = ResultsSettings()
    public_url: str = ""
    """How clients reach this service, such as `https://images.example.org`, for the addresses of
    pictures. Empty: by the host that the request was sent to."""
    picture_metadata: Literal["automatic1111", "all", "off"] = "automatic1111"
    """Whose pictures say in their files how they were made, the prompt with it: those of
    AUTOMATIC1111's routes, as its clients expect, or all that are answered directly, or none."""
    body_timeout_s: float = 60.0
    """How long a request body may take to arrive."""
    auth: AuthSettings = AuthSettings()
    limits: LimitsSettings = LimitsSettings()
    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may call the service, as `https://app.example`; `*` for all."""

    def __post_init__(self) -> None:
        for name, example in (
            ("max_body_mb", 60.0),
            ("max_megapixels", 32.0),
            ("body_timeout_s", 60.0),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(
                    f"{name} must be a finite number above 0, got {value}; "
                    f"set it to, say, {example}"
                )
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"cors_origins has {origin!r}: write scheme and host without a path, such as "
                    "https://app.example"
                )
        if self.public_url and not self.public_url.startswith(("http://", "https://")):
            raise ValueError(
                f"public_url must begin with http:// or https://, got {self.public_url!r}; "
                "set it to, say, https://images.example.org"
            )

    @property
    def max_body_bytes(self) -> int:
        """The body limit in bytes."""
        return int(self.max_body_mb * 1_000_000)
