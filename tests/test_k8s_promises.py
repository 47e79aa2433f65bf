"""What the manifests promise together with the Serve configs, the image and the runbook."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ray import __version__ as ray_version

from serve_app.config import DeploymentOptions
from tests.manifests import (
    K8S,
    OVERLAYS,
    Manifest,
    configs,
    groups_of,
    of_kind,
    pods_of,
    render,
    the,
)

RUNBOOK = (K8S / "README.md").read_text()
POOL = "stepwise.io/pool"


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def rayservice(overlay: str) -> Manifest:
    return the(render(overlay), "RayService")


def deployments(overlay: str) -> Iterator[DeploymentOptions]:
    for config in configs(overlay):
        yield from (model.deployment for model in config.models)
        yield from (config.imaging.deployment, config.ingress.deployment, config.jobs.deployment)


def replicas(options: DeploymentOptions) -> tuple[int, int]:
    """The fewest and the most."""
    scaling = options.autoscaling_config
    if scaling is None:
        return options.num_replicas or 1, options.num_replicas or 1
    return scaling["min_replicas"], scaling["max_replicas"]


def test_every_replica_fits_into_a_pod_and_all_into_the_pool(overlay: str) -> None:
    pools = {
        group["labels"][POOL]: group
        for group in groups_of(rayservice(overlay))
        if "labels" in group
    }
    left = {name: _pods(group, "minReplicas") for name, group in pools.items()}
    most = {name: _pods(group, "maxReplicas") for name, group in pools.items()}
    for options in deployments(overlay):
        fewest_replicas, most_replicas = replicas(options)
        pool = options.label_selector[POOL]
        _place(options, fewest_replicas, left[pool])
        _place(options, most_replicas, most[pool])
    assert set(pools) == {"cpu", "gpu"}


def _pods(group: Manifest, count: str) -> list[dict[str, float]]:
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    pod = {"cpu": float(limits["cpu"]), "gpu": float(limits.get("nvidia.com/gpu", 0))}
    return [dict(pod) for _ in range(group[count])]


def _place(options: DeploymentOptions, count: int, pods: list[dict[str, float]]) -> None:
    """As Ray does: where there is room. Fails where there is none."""
    most, held = options.max_replicas_per_node or count, [0] * len(pods)
    for _ in range(count):
        place, pod = next(
            (place, each)
            for place, each in enumerate(pods)
            if each["cpu"] >= options.num_cpus
            and each["gpu"] >= options.num_gpus
            and held[place] < most
        )
        held[place] += 1
        pod["cpu"] -= options.num_cpus
        pod["gpu"] -= options.num_gpus


def test_whoever_stops_has_time_for_the_longest_request(overlay: str) -> None:
    longest_s = max(options.graceful_shutdown_timeout_s for options in deployments(overlay))
    service = rayservice(overlay)
    assert service["spec"]["rayClusterDeletionDelaySeconds"] > longest_s
    _, *workers = groups_of(service)
    for group in workers:
        spec = group["template"]["spec"]
        env = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}
        drain_s = float(env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert drain_s > 2 * longest_s  # the replacement's start, then the old one's grace
        assert spec["terminationGracePeriodSeconds"] > drain_s


def test_the_route_waits_for_the_longest_request_and_the_most_patient_job() -> None:
    [rule] = the(render("production"), "HTTPRoute")["spec"]["rules"]
    allowed_s = {int(value.removesuffix("s")) for value in rule["timeouts"].values()}
    for config in configs("production"):
        grace_s = config.ingress.deployment.graceful_shutdown_timeout_s
        assert min(allowed_s) > config.jobs.settings.patience_s + grace_s
    [backend] = rule["backendRefs"]
    name = rayservice("production")["metadata"]["name"]
    assert backend == {"name": f"{name}-serve-svc", "port": 8000}


def test_the_head_does_no_work(overlay: str) -> None:
    service = rayservice(overlay)
    head = service["spec"]["rayClusterConfig"]["headGroupSpec"]
    assert service["spec"]["excludeHeadPodFromServeSvc"] is True
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert POOL not in head.get("labels", {})
    # KubeRay makes the Service of the workers from the head's port of this name.
    assert {"name": "serve", "containerPort": 8000} in ports_of(head)


def ports_of(group: Manifest) -> list[Any]:
    ports: list[Any] = group["template"]["spec"]["containers"][0]["ports"]
    return ports


def test_ray_is_the_version_that_is_tested(overlay: str) -> None:
    assert rayservice(overlay)["spec"]["rayClusterConfig"]["rayVersion"] == ray_version


def test_pods_have_no_rights(overlay: str) -> None:
    manifests = render(overlay)
    redis = the(manifests, "StatefulSet")["spec"]["template"]
    head, *workers = pods_of(the(manifests, "RayService"))
    for pod in (head, *workers, redis):
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]
            assert "memory" in container["resources"]["limits"]
    for pod in (*workers, redis):  # the head has one, for its autoscaler
        assert pod["spec"]["automountServiceAccountToken"] is False
    namespace = the(manifests, "Namespace")["metadata"]["labels"]
    assert namespace["pod-security.kubernetes.io/enforce"] == "restricted"


def test_workers_keep_their_caches_on_the_volume(overlay: str) -> None:
    claim = the(render(overlay), "PersistentVolumeClaim")["metadata"]["name"]
    _, *workers = pods_of(rayservice(overlay))
    for pod in workers:
        [container] = pod["spec"]["containers"]
        [mount] = container["volumeMounts"]
        [volume] = pod["spec"]["volumes"]
        assert volume == {"name": mount["name"], "persistentVolumeClaim": {"claimName": claim}}
        env = {each["name"]: each.get("value", "") for each in container["env"]}
        for name in ("HF_HOME", "TORCHINDUCTOR_CACHE_DIR", "NUMBA_CACHE_DIR"):
            assert env[name].startswith(f"{mount['mountPath']}/")
        for config in configs(overlay):
            folders = [model.settings.cache_folder for model in config.models]
            for folder in (*folders, config.jobs.settings.journal):
                assert folder.replace("~", "/home/stepwise").startswith(f"{mount['mountPath']}/")


def test_proxies_trace_as_replicas_do(overlay: str) -> None:
    tracing = yaml.safe_load(rayservice(overlay)["spec"]["serveConfigV2"]).get("tracing_config", {})
    _, *workers = pods_of(rayservice(overlay))
    for pod in workers:
        env = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
        assert env.get("RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH") == tracing.get(
            "exporter_import_path"
        )
        if tracing:
            assert float(env["RAY_SERVE_TRACING_SAMPLING_RATIO"]) == tracing["sampling_ratio"]


def test_gpu_pods_tolerate_the_taint_of_gpu_machines(overlay: str) -> None:
    for group in groups_of(rayservice(overlay)):
        pod = group["template"]["spec"]
        has_gpu = "nvidia.com/gpu" in pod["containers"][0]["resources"]["limits"]
        assert has_gpu == (group.get("groupName") == "gpu") == ("tolerations" in pod)


def test_prometheus_finds_every_port_that_it_is_told_of() -> None:
    manifests = render("production")
    head, *workers = groups_of(the(manifests, "RayService"))
    monitored = [
        each["port"] for each in the(manifests, "PodMonitor")["spec"]["podMetricsEndpoints"]
    ]
    numbers = {each["name"]: each["containerPort"] for each in ports_of(head)}
    assert set(monitored) <= set(numbers)
    for group in workers:
        assert {"name": "metrics", "containerPort": 8080} in ports_of(group)
    [rule] = the(manifests, "NetworkPolicy", "prometheus-to-metrics")["spec"]["ingress"]
    assert {each["port"] for each in rule["ports"]} == {numbers[name] for name in monitored}


LABELS = {
    "head": {"ray.io/is-ray-node": "yes", "ray.io/node-type": "head"},
    "worker": {"ray.io/is-ray-node": "yes", "ray.io/node-type": "worker"},
    "redis-cleanup": {"ray.io/is-ray-node": "yes", "ray.io/node-type": "redis-cleanup"},
    "redis": {"app.kubernetes.io/name": "stepwise-redis"},
}
"""Of the pods that there are: KubeRay's, and ours."""


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items()
    among = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in among)
    return wanted <= labels.items() and all(labels.get(e["key"]) in e["values"] for e in among)


def reachable(overlay: str, source: str, target: str) -> set[int | None]:
    """Ports of `target` pods that `source` pods may open; None stands for all of them."""
    policies = [each["spec"] for each in of_kind(render(overlay), "NetworkPolicy")]
    leaving = _allowed(policies, "egress", "to", of=LABELS[source], peer=LABELS[target])
    entering = _allowed(policies, "ingress", "from", of=LABELS[target], peer=LABELS[source])
    if None in leaving:
        return entering
    return leaving if None in entering else leaving & entering


def _allowed(
    policies: list[Manifest], way: str, end: str, *, of: dict[str, str], peer: dict[str, str]
) -> set[int | None]:
    """Ports that policies of pods with the labels `of` open to pods of this namespace."""
    rules = [
        rule
        for policy in policies
        if selects(policy["podSelector"], of)
        for rule in policy.get(way, [])
        if any(
            "namespaceSelector" not in each and selects(each["podSelector"], peer)
            for each in rule.get(end, [])
            if "podSelector" in each
        )
    ]
    return {port["port"] for rule in rules for port in rule.get("ports", [{"port": None}])}


def test_pods_reach_what_they_need_and_no_more(overlay: str) -> None:
    assert reachable(overlay, "worker", "head") == {None}
    assert reachable(overlay, "head", "worker") == {None}
    assert reachable(overlay, "worker", "worker") == {None}
    assert reachable(overlay, "head", "redis") == {6379}
    assert reachable(overlay, "redis-cleanup", "redis") == {6379}
    assert reachable(overlay, "worker", "redis") == set()
    assert reachable(overlay, "redis", "head") == set()
    deny = the(render(overlay), "NetworkPolicy", "deny-all")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_from_other_namespaces_each_has_its_own_door(overlay: str) -> None:
    doors = {}
    for policy in of_kind(render(overlay), "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            for peer in rule["from"]:
                if "namespaceSelector" in peer:
                    [source] = peer["namespaceSelector"]["matchLabels"].values()
                    doors[source] = {each["port"] for each in rule["ports"]}
    assert doors == {
        "kuberay-system": {8265},
        "gateway": {8000},
        "monitoring": {8080, 44217, 44227},
    }


def test_disruption_budgets_select_the_pools() -> None:
    manifests = render("production")
    pools = {
        group["labels"][POOL]: group["minReplicas"]
        for group in groups_of(the(manifests, "RayService"))
        if "labels" in group
    }
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        pool = budget["spec"]["selector"]["matchLabels"][POOL]
        assert budget["spec"]["minAvailable"] < pools.pop(pool)  # else nothing could be drained
    assert not pools


def test_the_runbook_makes_every_secret_that_is_asked_for(overlay: str) -> None:
    asked = dict(_secrets(render(overlay)))
    made = dict(re.findall(r"create secret generic (\S+) --from-(?:literal|file)=(\w+)", RUNBOOK))
    assert asked.items() <= made.items()
    assert not of_kind(render(overlay), "Secret")


def _secrets(node: Any) -> Iterator[tuple[str, str]]:
    """Name and key of every Secret in use."""
    if isinstance(node, list):
        for each in node:
            yield from _secrets(each)
    elif isinstance(node, dict):
        if "secretKeyRef" in node:
            yield node["secretKeyRef"]["name"], node["secretKeyRef"]["key"]
        if "secretName" in node:
            yield node["secretName"], "auth_token"
        for each in node.values():
            yield from _secrets(each)


def test_every_alert_has_its_section_in_the_runbook() -> None:
    sections = re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)
    rules = [
        rule
        for group in the(render("production"), "PrometheusRule")["spec"]["groups"]
        for rule in group["rules"]
    ]
    assert sorted(sections) == sorted(rule["alert"] for rule in rules)
    for rule in rules:
        assert rule["annotations"]["runbook"] == f"k8s/README.md#{rule['alert'].lower()}"
