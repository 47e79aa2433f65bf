"""Writes docs/metrics.md from the table in deployments/metrics.py."""

from collections.abc import Iterator
from pathlib import Path

from deployments.metrics import PUBLISH_EVERY_S, TABLE, Metric

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"

BEGINNING = f"""# Metrics

Written by `scripts/metrics_page.py` from `deployments/metrics.py`; a test holds them together.

Every node's Ray answers Prometheus at `http://NODE:PORT/metrics`, where PORT is what `ray start
--metrics-export-port` said, and 8080 on KubeRay. The names below are those that it exports: Ray
puts `ray_` before ours. Beside the labels given here each has `deployment`, `replica` and
`application` of Ray Serve, and some of Ray's own. A dashboard and alert rules over them are in
`k8s/base/monitoring`.

- Replicas say every {PUBLISH_EVERY_S:g} s what has happened, and Ray collects that every 10 s: to
  scrape more often shows nothing more. The last seconds of a replica that dies are lost.
- Of a histogram's observations Ray keeps the bucket alone. Its `_sum` is made of the buckets'
  middles: ask for quantiles, and of `_sum` for no more than a rough mean.
- A node keeps showing the counters of replicas that are gone, as they were: use `rate` or
  `increase`. Gauges of a replica that is gone disappear within 20 s.
- Counters whose labels are known beforehand are there from the start, at 0, so that `increase` sees
  the first event.
- Requests, their status and their time in the proxies, calls that wait at their callers, replicas
  and autoscaling are Ray Serve's own metrics, `ray_serve_*`; the dashboard shows those too.
"""

TITLES = {
    "diffusion": "Models (`diffusion-*`)",
    "ingress": "Ingress",
    "imaging": "Imaging",
    "jobs": "Jobs",
}


def page() -> str:
    """The whole file."""
    lines = [BEGINNING]
    for room, metrics in TABLE.items():
        lines.append(f"## {TITLES[room]}\n")
        lines.append("| metric | labels | it says | what to do |")
        lines.append("|---|---|---|---|")
        lines += [f"{'|'.join(['', *_cells(metric), ''])}" for metric in metrics]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _cells(metric: Metric) -> Iterator[str]:
    yield f" `{metric.exported}`, {metric.kind}, {metric.unit} "
    labels = [
        f"`{label}`" + (f": {', '.join(values)}" if values else "")
        for label, values in metric.labels.items()
    ]
    yield f" {'; '.join(labels)} "
    yield f" {metric.help} "
    yield f" {metric.advice} "


if __name__ == "__main__":
    PAGE.write_text(page())
