"""A misspelt key of a Serve config is refused, however deep it is."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from serve_app.strict import read_config_file, refuse_unknown
from tests.service import ROOT

CONFIG = """
proxy_location: EveryNode
http_options: {host: 127.0.0.1, keep_alive_timeout_s: 75}
grpc_options: {port: 9000}
logging_config: {encoding: JSON, log_level: INFO}
tracing_config: {enabled: true, sampling_ratio: 1.0}
applications:
  - name: stepwise
    route_prefix: /
    import_path: serve_app.app:build
    logging_config: {encoding: JSON}
    args: {whatever: its builder, takes: []}
    runtime_env: {env_vars: {A_NAME: its own}}
    deployments:
      - name: ingress
        num_replicas: 2
        ray_actor_options: {num_cpus: 1, label_selector: {stepwise.io/pool: cpu}}
        user_config: {any: thing}
      - name: imaging
        autoscaling_config:
          min_replicas: 1
          policy: {policy_function: "serve_app.autoscaling:WorkPolicy"}
"""


def written(config: Any, folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    return path


def test_a_config_without_a_mistake_is_read(tmp_path: Path) -> None:
    config = read_config_file(written(CONFIG, tmp_path))
    assert config.http_options.keep_alive_timeout_s == 75
    assert config.applications[0].deployment_names == ["ingress", "imaging"]


@pytest.mark.parametrize(
    ("place", "wrong", "right"),
    [
        ((), "aplications", "applications"),
        ((), "http_option", "http_options"),
        (("http_options",), "hots", "host"),
        (("grpc_options",), "prot", "port"),
        (("logging_config",), "encodings", "encoding"),
        (("tracing_config",), "sampling_ration", "sampling_ratio"),
        (("applications", 0), "route_prefx", "route_prefix"),
        (("applications", 0, "logging_config"), "encodin", "encoding"),
        (("applications", 0, "deployments", 0), "num_replica", "num_replicas"),
        (
            ("applications", 0, "deployments", 0, "ray_actor_options"),
            "label_selectors",
            "label_selector",
        ),
        (
            ("applications", 0, "deployments", 1, "autoscaling_config"),
            "min_replica",
            "min_replicas",
        ),
        (
            ("applications", 0, "deployments", 1, "autoscaling_config", "policy"),
            "policy_functions",
            "policy_function",
        ),
    ],
    ids=str,
)
def test_a_misspelt_key_is_named_with_its_place(
    place: tuple[str | int, ...], wrong: str, right: str, tmp_path: Path
) -> None:
    config = yaml.safe_load(CONFIG)
    section: Any = config
    for step in place:
        section = section[step]
    section[wrong] = section.pop(right)
    with pytest.raises(ValueError, match=f"unknown key '{wrong}'") as caught:
        read_config_file(written(config, tmp_path))
    assert f"(did you mean '{right}'?)" in str(caught.value)
    dotted = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    assert str(caught.value).startswith(f"{dotted.lstrip('.')}: " if place else "unknown")


def test_a_key_that_no_word_is_like_gets_all_there_are() -> None:
    with pytest.raises(ValueError, match="http_options: unknown key 'zzz'; known are host, port"):
        refuse_unknown({"http_options": {"zzz": 1}}, ServeDeploySchema)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "valid dictionary"),
        ("a: [", "expected the node content"),
        ("proxy_location: EveryNode", "applications"),
        ("applications: nothing", "valid list"),
    ],
)
def test_what_is_no_config_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        read_config_file(written(text, tmp_path))


def test_serve_itself_would_drop_it() -> None:
    """Else all of this were for nothing."""
    config = yaml.safe_load(CONFIG)
    misspelt = copy.deepcopy(config)
    misspelt["http_options"]["hots"] = misspelt["http_options"].pop("host")
    assert ServeDeploySchema.model_validate(misspelt).http_options.host == "0.0.0.0"


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_config_of_ours_is_read(path: Path) -> None:
    assert [app.import_path for app in read_config_file(path).applications] == [
        "serve_app.app:build"
    ]
