"""The dashboard and the alert rules, and which metrics they ask for."""

import json
import re
from typing import Any

import yaml

from tests.service import ROOT

MONITORING = ROOT / "k8s" / "base" / "monitoring"
RULES: dict[str, Any] = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
ALERTS: list[dict[str, Any]] = [
    rule for group in RULES["spec"]["groups"] for rule in group["rules"]
]

RAYS = {
    "ray_serve_autoscaling_desired_replicas",
    "ray_serve_deployment_error_counter_total",
    "ray_serve_deployment_queued_queries",
    "ray_serve_deployment_replica_healthy",
    "ray_serve_deployment_status",
    "ray_serve_num_http_requests_total",
    "ray_serve_replica_processing_queries",
}
"""Ray Serve's own that we use; test_prometheus.py proves that it has them."""

_NOT_METRICS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}


def dashboard_queries() -> list[str]:
    """The expression of every panel."""
    return [each["expr"] for panel in DASHBOARD["panels"] for each in panel.get("targets", ())]


def variable_queries() -> list[str]:
    """What the dashboard's menus are filled with: `label_values(metric, label)`."""
    return [each["definition"] for each in DASHBOARD["templating"]["list"] if "definition" in each]


def metrics_in(expression: str) -> set[str]:
    """The names of the series that a PromQL expression reads."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    words = re.findall(r"\b[A-Za-z_][\w:]*\b(?!\s*\()", bare)
    return {word for word in words if word.lower() not in _NOT_METRICS}
