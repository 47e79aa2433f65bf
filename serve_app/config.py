"""Everything a config file may say under `args`. Frozen, and checked once, at start.

Each deployment has two sections: `settings`, which are its room's own, and `deployment`, which
says how Serve runs it, in Serve's own words. Serve drops keys that it does not know in silence;
here they are refused with a hint.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, get_type_hints

import msgspec
from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import RayActorOptionsSchema

from deployments.diffusion.settings import DiffusionSettings
from deployments.imaging.settings import ImagingSettings
from deployments.ingress.settings import IngressSettings
from deployments.jobs.settings import JobsSettings
from serve_app.autoscaling import POLICY
from serve_app.routing import ROUTER
from serve_app.strict import refuse_unknown, suggestion


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the config: no key that it does not know, and nothing changes after start."""


_TOLD_OTHERWISE = ("num_cpus", "num_gpus", "label_selector", "num_replicas", "autoscaling_config")
"""Options that Serve is not told as they stand here."""


class DeploymentOptions(Section, frozen=True, kw_only=True):
    """How Serve runs one deployment."""

    num_replicas: int | None = None
    """1 where neither this nor `autoscaling_config` is given."""
    autoscaling_config: dict[str, Any] | None = None
    """Serve's own."""
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    """A fraction puts several replicas on one GPU; 0 needs none."""
    label_selector: dict[str, str] = msgspec.field(default_factory=dict)
    """Labels of the nodes that replicas may run on, in Ray's words, as `stepwise.io/pool: gpu`."""
    max_replicas_per_node: int | None = None
    """So that the loss of a node is not that of all replicas; Ray may else put them on one."""
    max_ongoing_requests: int = 256
    max_queued_requests: int = -1
    """Requests that may wait at each caller; -1 sets no limit."""
    graceful_shutdown_timeout_s: float = 60.0
    """How long a replica that is told to stop may finish what it has."""
    graceful_shutdown_wait_loop_s: float = 2.0
    health_check_period_s: float = 10.0
    health_check_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if self.num_replicas is not None and self.num_replicas < 1:
            raise ValueError(f"num_replicas is {self.num_replicas}: it must be at least 1")
        if self.autoscaling_config is not None:
            refuse_unknown(self.autoscaling_config, AutoscalingConfig, "autoscaling_config")
        if self.num_replicas is not None and self.autoscaling_config is not None:
            raise ValueError("num_replicas and autoscaling_config are both given: keep one")
        per_node = self.max_replicas_per_node
        if per_node is not None and not 1 <= per_node <= 100:
            raise ValueError(f"max_replicas_per_node is {per_node}: use 1 to 100, or leave it out")
        for name in ("num_cpus", "num_gpus", "graceful_shutdown_timeout_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name):g}: it must not be negative")
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise ValueError(f"num_gpus is {self.num_gpus:g}: use a fraction below 1 or whole GPUs")
        try:
            RayActorOptionsSchema(label_selector=self.label_selector)
        except ValidationError as error:
            raise ValueError(f"label_selector: {error.errors()[0]['msg']}") from error

    def as_serve_options(self) -> dict[str, Any]:
        """The keyword arguments of a Serve deployment's `.options()`."""
        options: dict[str, Any] = {
            name: getattr(self, name)
            for name in DeploymentOptions.__struct_fields__
            if name not in _TOLD_OTHERWISE
        }
        if self.autoscaling_config is None:
            options["num_replicas"] = self.num_replicas or 1
        else:
            options["autoscaling_config"] = self.autoscaling_config
        actor: dict[str, Any] = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}
        if self.label_selector:
            actor["label_selector"] = self.label_selector
        return {**options, "ray_actor_options": actor}


class ModelDeployment(DeploymentOptions, frozen=True, kw_only=True):
    """As every deployment, but routed by work, and where a wait is given scaled by it."""

    target_wait_s: float | None = None
    """How long a row may wait before there are more replicas, by the measured cost of the rows
    before it. Without it `autoscaling_config` scales by Serve's own `target_ongoing_requests`."""
    max_load: float = 0.8
    """How much of its capacity a replica should be using: with more asked of it, there are more."""
    routing: Literal["work", "power_of_two"] = "work"
    """How callers choose a replica: by what each has to do and the adapters that it holds, or as
    Serve does by default, by the number of requests."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.max_load <= 1:
            raise ValueError(f"max_load is {self.max_load:g}: use 0 < max_load <= 1")
        if self.target_wait_s is None:
            return
        if self.target_wait_s <= 0:
            raise ValueError(f"target_wait_s is {self.target_wait_s:g}: use a number above 0")
        if self.autoscaling_config is None:
            raise ValueError(
                f"target_wait_s is {self.target_wait_s:g} and there is no autoscaling_config: "
                "give one with min_replicas and max_replicas, or leave target_wait_s out"
            )
        for key in ("policy", "target_ongoing_requests"):
            if key in self.autoscaling_config:
                raise ValueError(
                    f"target_wait_s and autoscaling_config's {key} are both given: keep one"
                )

    def as_serve_options(self) -> dict[str, Any]:
        """The keyword arguments of a Serve deployment's `.options()`."""
        options = super().as_serve_options()
        if self.target_wait_s is not None:
            kwargs = {"target_wait_s": self.target_wait_s, "max_load": self.max_load}
            policy = {"policy_function": POLICY, "policy_kwargs": kwargs}
            options["autoscaling_config"] = {**options["autoscaling_config"], "policy": policy}
        if self.routing == "work":
            options["request_router_config"] = {"request_router_class": ROUTER}
        return options


class ModelSection(Section, frozen=True, kw_only=True):
    """One model: its engine and the replicas that run it."""

    settings: DiffusionSettings
    deployment: ModelDeployment = ModelDeployment()

    def __post_init__(self) -> None:
        if self.settings.memory_fraction != 1 and 0 < self.deployment.num_gpus < 1:
            raise ValueError(
                f"memory_fraction is {self.settings.memory_fraction:g} and num_gpus "
                f"{self.deployment.num_gpus:g}, which says it already: leave memory_fraction out"
            )
        grace_s = self.deployment.graceful_shutdown_timeout_s
        if grace_s <= self.settings.max_queue_s:
            raise ValueError(
                f"graceful_shutdown_timeout_s is {grace_s:g}: a replica that is told to stop may "
                f"still hold max_queue_s ({self.settings.max_queue_s:g}) seconds of work; "
                "set it above that"
            )


class ImagingSection(Section, frozen=True, kw_only=True):
    """The CPU replicas that prepare input images."""

    settings: ImagingSettings = ImagingSettings()
    deployment: DeploymentOptions = DeploymentOptions()

    def __post_init__(self) -> None:
        at_once = self.deployment.max_ongoing_requests
        if at_once <= self.settings.max_waiting:
            raise ValueError(
                f"max_ongoing_requests is {at_once}: Serve would refuse an image before "
                f"max_waiting ({self.settings.max_waiting}) does; set it above that and the "
                "replica's threads together"
            )


class JobsDeployment(DeploymentOptions, frozen=True, kw_only=True):
    """As every deployment, with the defaults of one that waits far more than it works."""

    num_cpus: float = 0.25
    max_ongoing_requests: int = 4096
    """Every job that is followed holds one."""


class JobsSection(Section, frozen=True, kw_only=True):
    """The ledger of jobs: one replica, since what it knows is in its memory."""

    settings: JobsSettings = JobsSettings()
    deployment: JobsDeployment = JobsDeployment()

    def __post_init__(self) -> None:
        if self.deployment.autoscaling_config is not None or self.deployment.num_replicas not in (
            None,
            1,
        ):
            raise ValueError("jobs has more than one replica: it must have num_replicas 1")


class IngressSection(Section, frozen=True, kw_only=True):
    """The replicas that speak HTTP."""

    settings: IngressSettings = IngressSettings()
    deployment: DeploymentOptions = DeploymentOptions(graceful_shutdown_timeout_s=120.0)


class AppConfig(Section, frozen=True, kw_only=True):
    """The whole graph."""

    models: tuple[ModelSection, ...]
    """The first is the default model of requests that name none."""
    imaging: ImagingSection = ImagingSection()
    ingress: IngressSection = IngressSection()
    jobs: JobsSection = JobsSection()

    def __post_init__(self) -> None:
        ids = [model.settings.id for model in self.models]
        if not ids:
            raise ValueError("models is empty: name at least one model")
        twice = next((name for name in ids if ids.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"models has two of id {twice!r}: give each its own")
        self._check_grace()
        self._check_megapixels()

    def _check_grace(self) -> None:
        grace_s = self.ingress.deployment.graceful_shutdown_timeout_s
        longest = max(self.models, key=lambda m: m.deployment.graceful_shutdown_timeout_s)
        longest_s = longest.deployment.graceful_shutdown_timeout_s
        if grace_s < longest_s:
            raise ValueError(
                f"ingress graceful_shutdown_timeout_s is {grace_s:g}: its requests may take the "
                f"{longest_s:g} seconds of model {longest.settings.id!r}; set it to at least that"
            )

    def _check_megapixels(self) -> None:
        passed, taken = self.ingress.settings.max_megapixels, self.imaging.settings.max_megapixels
        if passed > taken:
            raise ValueError(
                f"ingress max_megapixels is {passed:g} and imaging's {taken:g}: imaging would "
                "refuse what the ingress lets through; set imaging's to at least the ingress's"
            )


def read_config(args: Mapping[str, Any]) -> AppConfig:
    """`args` of a Serve config file, checked. Raises ValueError with the key, value and cure."""
    try:
        # strict=False: `serve run serve_app.app:build key=value` hands every value over as text.
        return msgspec.convert(args, AppConfig, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(_explained(str(error))) from error


def _explained(message: str) -> str:
    """msgspec's message with dots for its JSON path, and a hint for an unknown key."""
    text, _, place = message.partition(" - at `$")
    place = place.rstrip("`").lstrip(".") or "args"
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", text)
    if unknown is None:
        return f"config: {place}: {text}"
    known = _fields_at(place)
    return f"config: {place}: unknown key {unknown[1]!r}{suggestion(unknown[1], known)}"


def _fields_at(place: str) -> list[str]:
    """The keys of the struct at a path like `models[0].settings`."""
    struct: Any = AppConfig
    for name in re.findall(r"[a-z_]+", place) if place != "args" else ():
        hint = get_type_hints(struct)[name]
        struct = hint.__args__[0] if hasattr(hint, "__args__") else hint
    return list(struct.__struct_fields__)
