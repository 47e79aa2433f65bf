"""The manifests are what a cluster takes: rendered, held against schemas, misspelt keys refused."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import jsonschema
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from tests.manifests import K8S, OVERLAYS, Manifest, check, configs, of_kind, render, the
from tests.service import ROOT

REFUSED = jsonschema.ValidationError


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_a_cluster_would_take_every_object(overlay: str) -> None:
    manifests = render(overlay)
    for manifest in manifests:
        check(manifest)
    assert len(of_kind(manifests, "RayService")) == 1
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len(names) == len(set(names))


def test_every_object_is_in_the_namespace(overlay: str) -> None:
    for manifest in render(overlay):
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "stepwise"


MISSPELT = [
    ("RayService", "spec", "rayClusterConfg"),
    ("RayService", "spec", "excludeHeadPodFromServeService"),
    ("RayService", "spec.rayClusterConfig", "enableInTreeAutoscalling"),
    ("RayService", "spec.rayClusterConfig.authOptions", "secretname"),
    ("RayService", "spec.rayClusterConfig.gcsFaultToleranceOptions", "redisAdress"),
    ("RayService", "spec.rayClusterConfig.workerGroupSpecs.1", "idleTimeoutSecs"),
    ("RayService", "spec.rayClusterConfig.workerGroupSpecs.1.template.spec", "toleration"),
    (
        "RayService",
        "spec.rayClusterConfig.workerGroupSpecs.0.template.spec.containers.0",
        "readynessProbe",
    ),
    ("RayService", "spec.rayClusterConfig.headGroupSpec.template.spec.containers.0", "enviroment"),
    ("RayService", "metadata", "anotations"),
    ("StatefulSet", "spec.template.spec.containers.0.securityContext", "readOnlyRootFileSystem"),
    ("Service", "spec", "selectors"),
    ("PersistentVolumeClaim", "spec", "accessMode"),
    ("NetworkPolicy", "spec", "policyType"),
    ("PodDisruptionBudget", "spec", "minAvailible"),
    ("ConfigMap", "", "datas"),
    ("PodMonitor", "spec.podMetricsEndpoints.0", "ports"),
    ("PrometheusRule", "spec.groups.0.rules.0", "expression"),
    ("HTTPRoute", "spec.rules.0.timeouts", "backendrequest"),
    ("HTTPRoute", "spec", "hostname"),
]


@pytest.mark.parametrize(("kind", "place", "key"), MISSPELT)
def test_a_misspelt_key_is_refused(kind: str, place: str, key: str) -> None:
    manifest = deepcopy(of_kind(render("production"), kind)[0])
    at(manifest, place)[key] = {}
    with pytest.raises(REFUSED, match=key):
        check(manifest)


def test_values_of_the_wrong_type_and_what_is_missing_are_refused() -> None:
    for kind, place, key, value in [
        ("RayService", "spec.rayClusterConfig.workerGroupSpecs.0", "maxReplicas", "8"),
        ("RayService", "spec.rayClusterConfig.authOptions", "mode", "tokens"),
        ("NetworkPolicy", "spec", "podSelector", []),
        ("HTTPRoute", "spec.rules.0.timeouts", "request", 1800),
    ]:
        manifest = deepcopy(of_kind(render("production"), kind)[0])
        at(manifest, place)[key] = value
        with pytest.raises(REFUSED):
            check(manifest)
    manifest = deepcopy(the(render("production"), "RayService"))
    del at(manifest, "spec.rayClusterConfig.workerGroupSpecs.0")["groupName"]
    with pytest.raises(REFUSED, match="groupName"):
        check(manifest)


def at(manifest: Manifest, place: str) -> Any:
    found: Any = manifest
    for step in filter(None, place.split(".")):
        found = found[int(step) if step.isdigit() else step]
    return found


def test_production_serves_its_config_unchanged() -> None:
    service = the(render("production"), "RayService")
    assert service["spec"]["serveConfigV2"] == (ROOT / "configs/production.yaml").read_text()


def test_serve_and_the_app_understand_the_config(overlay: str) -> None:
    said = yaml.safe_load(the(render(overlay), "RayService")["spec"]["serveConfigV2"])
    understood = ServeDeploySchema.model_validate(said).model_dump(exclude_unset=True)
    assert list(keys_of(said)) == list(keys_of(understood))  # Serve drops what it does not know
    assert list(configs(overlay))


def keys_of(node: Any, place: str = "") -> Iterator[str]:
    """Every key with its place, sorted."""
    if isinstance(node, dict):
        for key in sorted(node):
            yield f"{place}.{key}"
            yield from keys_of(node[key], f"{place}.{key}")
    elif isinstance(node, list):
        for number, each in enumerate(node):
            yield from keys_of(each, f"{place}.{number}")


def test_the_dashboard_is_the_file() -> None:
    dashboard = the(render("production"), "ConfigMap", "stepwise-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["data"] == {
        "stepwise.json": (K8S / "base/monitoring/dashboard.json").read_text()
    }
