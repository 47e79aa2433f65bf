"""Config files: complete, checked against Serve's own schema, strict about what they may say."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve._private.build_app import build_app
from ray.serve.schema import ServeDeploySchema

from serve_app.app import _with_fraction, build
from serve_app.config import AppConfig, read_config
from tests.service import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def args_of(name: str) -> dict[str, Any]:
    path = ROOT / "configs" / name
    args: dict[str, Any] = yaml.safe_load(path.read_text())["applications"][0]["args"]
    return args


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_serves_schema_knows_every_key(path: Path) -> None:
    said = yaml.safe_load(path.read_text())
    understood = ServeDeploySchema.model_validate(said).model_dump(exclude_unset=True)
    assert _without_enums(understood) == said  # Serve drops in silence what it does not know


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_builds(path: Path) -> None:
    app = build(args_of(path.name))
    assert app._bound_deployment.name == "ingress"


def test_there_is_one_for_every_use() -> None:
    uses = {"local", "sd15", "sdxl", "flux", "two-models-one-gpu", "production"}
    assert uses <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_its_figures_agree_with_each_other(path: Path) -> None:
    config = read_config(args_of(path.name))
    for model in config.models:
        settings, deployment = model.settings, model.deployment
        if deployment.target_wait_s is not None:
            # Else a replica refuses rows before another one is asked for.
            assert deployment.target_wait_s <= settings.max_queue_s / 3
        # Serve's own count must not refuse what the queue would take: hundreds of rows may wait.
        assert deployment.max_ongoing_requests >= 1024
        assert config.ingress.settings.limits.max_steps <= settings.max_steps


def test_two_models_fill_one_gpu_and_each_keeps_to_its_half() -> None:
    models = read_config(args_of("two-models-one-gpu.yaml")).models
    assert sum(model.deployment.num_gpus for model in models) == 1
    assert [_with_fraction(model).memory_fraction for model in models] == [0.5, 0.5]


def test_production_is_what_its_first_lines_promise() -> None:
    said = yaml.safe_load((ROOT / "configs" / "production.yaml").read_text())
    assert (said["http_options"]["host"], said["proxy_location"]) == ("0.0.0.0", "EveryNode")
    assert said["logging_config"]["encoding"] == "JSON"
    assert said["tracing_config"]["enabled"]
    config = read_config(args_of("production.yaml"))
    assert config.ingress.settings.auth.chosen == "on"
    assert config.ingress.settings.limits.count_rows
    deployments = build_app(build(args_of("production.yaml")), name="stepwise").deployments
    selectors = {
        each.name: (each.ray_actor_options or {})["label_selector"] for each in deployments
    }
    cpu, gpu = ({"stepwise.io/pool": pool} for pool in ("cpu", "gpu"))
    assert selectors == {"ingress": cpu, "imaging": cpu, "jobs": cpu, "diffusion-sdxl": gpu}


def test_sd15_is_what_the_readme_says() -> None:
    model = read_config(args_of("sd15.yaml")).models[0]
    options = model.deployment.as_serve_options()
    assert options["ray_actor_options"] == {"num_cpus": 2, "num_gpus": 0.5}
    assert "num_replicas" not in options
    scaling = options["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (1, 4)
    assert scaling["policy"]["policy_kwargs"] == {"target_wait_s": 5, "max_load": 0.8}
    assert model.settings.compile == "default"


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    args = args_of("local.yaml")
    place: Any = args
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return args


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, ["args", "models"]),
        ({"models": []}, ["models is empty"]),
        (
            changed(
                "models", 0, "settings", "adapters", to=[{"name": "a", "source": "b", "scale": 1}]
            ),
            ["adapters", "unknown key 'scale'", "default_scale"],
        ),
        (changed("model", to=[]), ["unknown key 'model'", "did you mean 'models'?"]),
        (
            changed("models", 0, "settings", "max_queue", to=1),
            ["models[0].settings", "unknown key 'max_queue'", "did you mean 'max_queue_s'?"],
        ),
        (
            changed("models", 0, "deployment", "num_gpu", to=1),
            ["models[0].deployment", "did you mean 'num_gpus'?"],
        ),
        (
            changed("imaging", "deployment", "autoscaling_config", to={"min_replica": 1}),
            ["imaging.deployment", "did you mean 'min_replicas'?"],
        ),
        (changed("models", 0, "settings", "dtype", to="float31"), ["dtype", "float31"]),
        (changed("models", 0, "settings", "compile", to="fast"), ["compile", "fast"]),
        (changed("models", 0, "settings", "lane_buckets", to=[4, 2]), ["lane_buckets is (4, 2)"]),
        (changed("models", 0, "settings", "max_queue_s", to=0), ["max_queue_s is 0"]),
        (changed("models", 0, "settings", "max_queue_s", to=900), ["graceful_shutdown_timeout_s"]),
        (changed("models", 0, "settings", "default_steps", to=900), ["default_steps is 900"]),
        (changed("models", 0, "deployment", "num_gpus", to=1.5), ["num_gpus is 1.5"]),
        (changed("models", 0, "deployment", "num_cpus", to=-1), ["num_cpus is -1"]),
        (changed("models", 0, "deployment", "routing", to="random"), ["routing", "random"]),
        (changed("models", 0, "deployment", "num_replicas", to=0), ["num_replicas is 0"]),
        (
            changed("ingress", "deployment", "max_replicas_per_node", to=0),
            ["ingress.deployment", "max_replicas_per_node is 0"],
        ),
        (
            changed("jobs", "deployment", "label_selector", to={"pool": "c p u"}),
            ["jobs.deployment", "label_selector", "c p u"],
        ),
        (
            changed("models", 0, "deployment", "autoscaling_config", to={"min_replicas": 1}),
            ["num_replicas and autoscaling_config"],
        ),
        (changed("models", 0, "settings", "id", to="a#b"), ["id is 'a#b'"]),
        (changed("models", 0, "settings", "max_queue_s", to=float("nan")), ["max_queue_s is nan"]),
        (changed("models", 0, "settings", "default_guidance", to=-1), ["default_guidance is -1"]),
        (changed("ingress", "deployment", "graceful_shutdown_timeout_s", to=9), ["'embedded'"]),
        (changed("ingress", "settings", "max_megapixels", to=99), ["max_megapixels is 99"]),
        (changed("models", to=args_of("local.yaml")["models"] * 2), ["two of id 'embedded'"]),
    ],
)
def test_a_wrong_config_is_refused_with_the_key_and_the_cure(
    args: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the words are asserted below
        read_config(args)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("written", "mode"),
    [("off", None), ("'off'", None), ("default", "default"), ("max-autotune", "max-autotune")],
)
def test_compile_modes_as_yaml_reads_them(written: str, mode: str | None) -> None:
    value = yaml.safe_load(written)  # a bare off is false
    config = read_config(changed("models", 0, "settings", "compile", to=value))
    assert config.models[0].settings.compile_mode == mode


def test_text_values_of_the_command_line_are_understood() -> None:
    config = read_config(changed("models", 0, "settings", "max_queue_s", to="12"))
    assert config.models[0].settings.max_queue_s == 12


def test_a_config_is_frozen() -> None:
    config: AppConfig = read_config(args_of("local.yaml"))
    with pytest.raises(AttributeError):
        config.models[0].settings.max_queue_s = 1  # type: ignore[misc]


def _without_enums(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_enums(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_enums(item) for item in value]
    return getattr(value, "value", value)
