"""A real Prometheus scrapes the running service: what the table says is there, and moves."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from ray import serve
from server.serving import local_args

from deployments.diffusion.families.family import Family
from deployments.diffusion.stats import EngineStats
from deployments.metrics import TABLE, Metric
from serve_app.app import build
from tests.adapters import save
from tests.monitoring import ALERTS, RAYS, RULES, dashboard_queries
from tests.prometheus import Prometheus, needs_prometheus, running_prometheus
from tests.service import WAIT_S, Service
from tests.test_service import until

pytestmark = [pytest.mark.slow, needs_prometheus]

APP, MODEL = "watched", "watched"
PROMPT = "a red house on green hills at day"
AT_ONCE = 8
LONG = {"prompt": PROMPT, "num_inference_steps": 150}

UNMOVED = {
    "stepwise_compiles_total": "the model is not compiled",
    "stepwise_splits_total": "memory does not run out, and no row raises",
    "stepwise_codec_waits_total": "the engine waits when 66 pictures are to be encoded",
    "stepwise_prepare_waiting": "images that wait do so for less time than there is between looks",
}
"""What this traffic does not move, and why; test_metrics.py has each move."""


def args(adapter: Path) -> dict[str, Any]:
    """configs/local.yaml with a model that pads, has a LoRA, and is soon full."""
    found = local_args()
    [model] = found["models"]
    model["settings"] |= {
        "id": MODEL,
        "lane_buckets": [4],
        "strict": True,
        "max_queue_s": 0.5,  # one long row may wait, however fast this machine is
        "adapters": [{"name": "ink", "source": str(adapter)}],
    }
    imaging = found["imaging"]["deployment"]
    del imaging["num_replicas"]
    imaging["autoscaling_config"] = {"min_replicas": 1, "max_replicas": 2}
    return found


@pytest.fixture(scope="module")
def client(
    service: Service, embedded_family: Family, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    adapter = save(tmp_path_factory.mktemp("adapter") / "ink.safetensors", embedded_family, seed=1)
    serve.run(build(args(adapter)), name=APP, route_prefix=f"/{APP}")
    with httpx.Client(base_url=f"{service.url}/{APP}", timeout=2 * WAIT_S) as client:
        yield client
    serve.delete(APP)


@pytest.fixture(scope="module")
def prometheus(
    service: Service, client: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    folder, target = tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{service.metrics_port}"
    with running_prometheus(folder, target, RULES["spec"]) as prometheus:
        # Not before these have been scraped as 0: then every event is a rise.
        prometheus.wait_for(f'ray_stepwise_images_total{{application="{APP}"}}')
        prometheus.wait_for(f'ray_stepwise_rows_answered_total{{application="{APP}"}}')
        traffic(client)
        yield prometheus


def picture(side: int = 256) -> bytes:
    buffer = BytesIO()
    Image.linear_gradient("L").resize((side, side)).convert("RGB").save(buffer, "png")
    return buffer.getvalue()


def traffic(client: httpx.Client) -> None:
    """Of every kind, and at last more than there is room for."""

    def generate(**body: Any) -> httpx.Response:
        return client.post("/v1/images/generations", json={"prompt": PROMPT, **body})

    def edit(image: bytes) -> httpx.Response:
        form = {"prompt": PROMPT, "num_inference_steps": "4"}
        return client.post("/v1/images/edits", data=form, files={"image": ("image", image)})

    assert generate(n=2, num_inference_steps=4).status_code == 200
    assert generate(num_inference_steps=4, loras=[{"name": "ink"}]).status_code == 200
    assert edit(picture()).status_code == 200
    whole = picture()
    assert edit(whole[: len(whole) // 2]).status_code == 400
    assert generate(scheduler="LCMScheduler", num_inference_steps=60).status_code == 400
    streamed = {"stream": True, "partial_images": 2, "num_inference_steps": 8}
    assert "partial_image" in generate(**streamed).text
    assert client.post("/v1/jobs", json={"id": "short", "prompt": PROMPT}).is_success
    until(lambda: client.get("/v1/jobs/short").json()["state"] == "succeeded")
    with client.stream("POST", "/v1/images/generations", json={**LONG, "stream": True}):
        pass  # leaves
    engine = serve.get_deployment_handle(f"diffusion-{MODEL}", APP)

    def rows() -> tuple[int, int]:
        stats: EngineStats = engine.stats.remote().result(timeout_s=WAIT_S)
        return stats.running, stats.waiting

    until(lambda: rows() == (0, 0))  # who left is gone
    with ThreadPoolExecutor(AT_ONCE) as callers:
        answers = [callers.submit(generate, **LONG, seed=seed) for seed in range(2)]
        until(lambda: rows() == (2, 0))
        assert generate(num_inference_steps=1).status_code == 200  # takes the place of a long one
        answers += [callers.submit(generate, **LONG, seed=seed) for seed in range(2, AT_ONCE)]
        assert client.post("/v1/jobs", json={**LONG, "id": "waits"}).is_success
    assert {answer.result().status_code for answer in answers} == {200, 429}
    client.delete("/v1/jobs/waits")


@pytest.mark.parametrize(
    "metric", dict.fromkeys(m for room in TABLE.values() for m in room), ids=lambda m: m.name
)
def test_it_is_there_with_its_labels_and_has_moved(prometheus: Prometheus, metric: Metric) -> None:
    name = f"{metric.exported}_count" if metric.kind == "histogram" else metric.exported
    ours = f'{name}{{application="{APP}"}}'
    rooms = [room for room, metrics in TABLE.items() if metric in metrics]
    for room in rooms:
        deployment = f"diffusion-{MODEL}" if room == "diffusion" else room
        series = prometheus.wait_for(f'{name}{{application="{APP}", deployment="{deployment}"}}')
        labels = series[0]["metric"]
        assert labels.keys() >= {"replica", *metric.labels}
        assert labels.get("model", MODEL) == MODEL
        for label, values in metric.labels.items():
            if values and metric.kind != "histogram":
                assert {each["metric"][label] for each in series} == set(values)
    if metric.name not in UNMOVED:
        prometheus.wait_for(f"max_over_time({ours}[10m]) > 0")
    if metric.kind == "histogram":
        bounds = {
            float(each["metric"]["le"])
            for each in prometheus.series(f'{metric.exported}_bucket{{application="{APP}"}}')
        }
        assert bounds == {*metric.buckets, float("inf")}


def test_what_happened_is_what_was_counted(prometheus: Prometheus) -> None:
    def total(expression: str) -> float:
        [series] = prometheus.wait_for(f"sum ({expression})")
        return float(series["value"][1])

    ours = f'application="{APP}"'
    answered = f'ray_stepwise_rows_answered_total{{{ours}, outcome="%s"}}'
    images = f'ray_stepwise_images_total{{{ours}, status="%s"}}'
    assert total(answered % "refused") == total(images % "400") - 1 == 1  # imaging refused one
    assert total(answered % "done") >= total(images % "200") >= 7
    assert total(images % "429") >= 1
    assert total(images % "499") == 1
    assert total(f'ray_stepwise_row_retries_total{{{ours}, reason="full"}}') >= 2
    assert total(f"ray_stepwise_previews_total{{{ours}}}") >= 2
    [risen] = prometheus.wait_for(
        f'sum (increase(ray_stepwise_rows_answered_total{{{ours}, outcome="refused"}}[10m]))'
    )
    assert float(risen["value"][1]) > 0.5, "the first of all is no rise to Prometheus"


@pytest.mark.parametrize("name", sorted(RAYS))
def test_rays_own_are_there(prometheus: Prometheus, name: str) -> None:
    prometheus.wait_for(f'{name}{{application="{APP}"}}')


def test_every_panel_shows_something(prometheus: Prometheus) -> None:
    for query in dashboard_queries():
        asked = query.replace("$application", APP).replace("$model", MODEL)
        prometheus.wait_for(asked.replace("$__rate_interval", "5m"))


def test_prometheus_evaluates_every_alert(prometheus: Prometheus) -> None:
    rules = prometheus.rules()
    assert {rule["name"] for rule in rules} == {alert["alert"] for alert in ALERTS}
    assert {rule["health"] for rule in rules} == {"ok"}, json.dumps(rules, indent=1)
