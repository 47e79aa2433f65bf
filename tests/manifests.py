"""The manifests of k8s/ as a cluster would get them, and what says whether it would take them."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes_validate.utils import validate

from serve_app.config import AppConfig, read_config
from tests.service import ROOT

K8S = ROOT / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
KUBERNETES = "1.34"
"""The version whose schemas core kinds are held against."""

Manifest = dict[str, Any]


@cache
def render(overlay: str) -> list[Manifest]:
    """What `kubectl apply -k` would send; for all tests the same, so copy what you change."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here: apt-get install kubernetes-client")
    command = [kubectl, "kustomize", str(K8S / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def the(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """The only one of its kind, or of its kind and name."""
    [found] = [
        each
        for each in manifests
        if each["kind"] == kind and name in ("", each["metadata"]["name"])
    ]
    return found


def configs(overlay: str) -> Iterator[AppConfig]:
    """Of every application of an overlay, checked."""
    said = yaml.safe_load(the(render(overlay), "RayService")["spec"]["serveConfigV2"])
    for application in said["applications"]:
        yield read_config(application["args"])


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] == kind]


@cache
def _rayservice_schema() -> Any:
    place = os.environ.get("STEPWISE_RAYSERVICE_SCHEMA")
    path = Path(place) if place else ROOT.parent / "shared/kuberay/rayservice-v1.schema.json"
    if not path.is_file():
        pytest.skip(
            "no schema of RayService: let STEPWISE_RAYSERVICE_SCHEMA name the openAPIV3Schema of "
            "ray.io_rayservices.yaml, as JSON"
        )
    return jsonschema.Draft202012Validator(strict(json.loads(path.read_text())))


def strict(node: Any) -> Any:
    """An OpenAPI schema as a JSON schema that refuses keys which it does not name."""
    if isinstance(node, list):
        return [strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept = {key: strict(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and "type" in node:
        kept.setdefault(
            "additionalProperties", bool(node.get("x-kubernetes-preserve-unknown-fields"))
        )
    return kept


def check(manifest: Manifest) -> None:
    """Raises jsonschema's ValidationError, or kubernetes-validate's, which is one."""
    kind = manifest["kind"]
    if kind == "RayService":
        _rayservice_schema().validate(manifest)
        validate(_metadata_of(manifest), KUBERNETES, strict=True)
        for pod in pods_of(manifest):
            validate(pod, KUBERNETES, strict=True)
    elif kind in EXTENSIONS:
        jsonschema.Draft202012Validator(EXTENSIONS[kind]).validate(manifest)
        validate(_metadata_of(manifest), KUBERNETES, strict=True)
    else:
        validate(manifest, KUBERNETES, strict=True)


def _metadata_of(manifest: Manifest) -> Manifest:
    """Schemas of custom resources say nothing of metadata: it is looked at on a core object."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": manifest["metadata"]}


def groups_of(rayservice: Manifest) -> list[Manifest]:
    """The head's group first."""
    cluster = rayservice["spec"]["rayClusterConfig"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def pods_of(rayservice: Manifest) -> Iterator[Manifest]:
    """Pods of the groups' templates, the head's first."""
    for group in groups_of(rayservice):
        name = {"name": group.get("groupName", "head")}
        template = group["template"]
        metadata = {**template.get("metadata", {}), **name}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def _object(required: str, optional: str = "", **nested: Any) -> dict[str, Any]:
    """A schema of an object with these keys and no others."""
    names = [*required.split(), *optional.split()]
    return {
        "type": "object",
        "required": required.split(),
        "properties": {name: nested.get(name, {}) for name in names},
        "additionalProperties": False,
    }


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


def _custom(api: str, kind: str, spec: Any) -> dict[str, Any]:
    return _object(
        "apiVersion kind metadata spec", apiVersion={"const": api}, kind={"const": kind}, spec=spec
    )


_TEXT = {"type": "string", "minLength": 1}
_DURATION = {"type": "string", "pattern": r"^(\d+(ms|s|m|h))+$"}
_LABELS = {"type": "object", "additionalProperties": _TEXT}
_RULE = _object(
    "alert expr labels annotations",
    "for keep_firing_for",
    alert={"type": "string", "pattern": "^Stepwise[A-Za-z]+$"},
    expr=_TEXT,
    labels=_object("severity", severity={"enum": ["info", "warning", "critical"]}),
    annotations=_object("summary description runbook"),
    **{"for": _DURATION},
)
_ENDPOINT = _object(
    "port",
    "path interval scrapeTimeout relabelings metricRelabelings",
    port=_TEXT,
    relabelings=_list(_object("sourceLabels targetLabel", sourceLabels=_list(_TEXT))),
)
_ROUTE_RULE = _object(
    "backendRefs",
    "matches timeouts filters",
    matches=_list(
        _object("path", path=_object("type value", type={"enum": ["Exact", "PathPrefix"]}))
    ),
    timeouts=_object("request", "backendRequest", request=_DURATION, backendRequest=_DURATION),
    backendRefs=_list(_object("name port", "namespace weight", port={"type": "integer"})),
)

EXTENSIONS: dict[str, dict[str, Any]] = {
    "PodMonitor": _custom(
        "monitoring.coreos.com/v1",
        "PodMonitor",
        _object(
            "selector podMetricsEndpoints",
            "namespaceSelector jobLabel",
            selector=_object("", "matchLabels matchExpressions", matchLabels=_LABELS),
            podMetricsEndpoints=_list(_ENDPOINT),
        ),
    ),
    "PrometheusRule": _custom(
        "monitoring.coreos.com/v1",
        "PrometheusRule",
        _object(
            "groups", groups=_list(_object("name rules", "interval labels", rules=_list(_RULE)))
        ),
    ),
    "HTTPRoute": _custom(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        _object(
            "parentRefs rules",
            "hostnames",
            parentRefs=_list(_object("name", "namespace sectionName port")),
            hostnames=_list(_TEXT),
            rules=_list(_ROUTE_RULE),
        ),
    ),
}
"""What we use of kinds whose schemas no package has: a key that is missing here is refused too."""
