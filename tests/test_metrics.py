"""The table of metrics: what it promises, who tells it, and what reads it. Without Prometheus."""

import asyncio
import re
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import httpx
import metrics_page
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from ray.serve import metrics as serve_metrics

from deployments import metrics
from deployments.diffusion.answers import Outcome
from deployments.diffusion.capacity import HeldBack
from deployments.diffusion.families.family import Family
from deployments.diffusion.phases import Phase, Phases
from deployments.diffusion.run import Watcher
from deployments.diffusion.telling import Telling
from deployments.errors import (
    AdapterFailed,
    EngineFailed,
    GenerationFailed,
    InvalidImage,
    ModelNotReady,
    Requeue,
)
from deployments.imaging.deployment import Imaging
from deployments.imaging.settings import ImagingSettings
from deployments.ingress.routes import build_app
from deployments.ingress.service import Service as IngressService
from deployments.ingress.settings import IngressSettings
from deployments.jobs.ledger import Ledger
from deployments.jobs.settings import JobsSettings
from deployments.metrics import TABLE, Metric
from deployments.published import Published
from deployments.requests import GenerationRequest, JobState, PrepareSpec, Progress
from tests.driving import drive, driven, wait_until_settled, wait_until_waiting
from tests.ingress_backend import OneColour, ask, png
from tests.meters import Recorded
from tests.monitoring import (
    ALERTS,
    DASHBOARD,
    MONITORING,
    RAYS,
    RULES,
    dashboard_queries,
    metrics_in,
    variable_queries,
)
from tests.prometheus import needs_prometheus, promtool
from tests.rows import make_row
from tests.service import APP, ROOT, Service
from tests.test_service import generate, until

ALL = list(dict.fromkeys(metric for room in TABLE.values() for metric in room))
SPEC = PrepareSpec(width=64, height=64, latent_factor=8, mask_polarity="transparent")


# The table itself


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_names_say_kind_and_unit(metric: Metric) -> None:
    assert re.fullmatch(r"stepwise_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    for unit in ("seconds", "bytes"):
        assert (f"_{unit}" in metric.name) == (metric.unit == unit)
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert "deployment" not in metric.labels, "Serve's own"
    assert metric.help.endswith(".")
    assert metric.advice.endswith(".")


def test_no_name_is_there_twice() -> None:
    names = [metric.name for metric in ALL]
    assert len(names) == len(set(names))
    defined = {value for value in vars(metrics).values() if isinstance(value, Metric)}
    assert defined == set(ALL), "a metric that no room publishes"


def test_labels_have_the_values_that_the_code_gives_them() -> None:
    assert metrics.ROWS_ANSWERED.labels["outcome"] == get_args(Outcome)
    assert metrics.ENGINE_TIME.labels["phase"] == get_args(Phase)
    assert metrics.HELD_BACK.labels["reason"] == get_args(HeldBack)
    states = {*metrics.JOBS.labels["state"], *metrics.JOBS_ENDED.labels["state"]}
    assert states == set(get_args(JobState))


def test_the_page_is_the_table() -> None:
    assert metrics_page.PAGE.read_text() == metrics_page.page(), "run scripts/metrics_page.py"


def test_the_readme_names_none_that_is_not_there() -> None:
    names = set(re.findall(r"`ray_(stepwise_\w+)`", (ROOT / "README.md").read_text()))
    assert len(names) == 5
    assert names <= {metric.name for metric in ALL}


# Who tells it


def test_the_engine_tells_what_it_does(tiny_family: Family) -> None:
    meter, shown = Recorded(), list[Progress]()
    telling = Telling(meter, "tiny")
    with driven(tiny_family, lane_buckets=(4,), strict=True, max_queue_s=1) as engine:
        calls = [make_row(seed=seed, num_inference_steps=8) for seed in range(3)]
        watcher = Watcher(shown.append, previews=2)
        run = [engine.submit(row, watcher=watcher) for row in calls]
        bad = engine.submit(make_row(scheduler="LCMScheduler", num_inference_steps=60))
        wait_until_waiting(engine, 3)
        engine.step()
        telling.tell(engine.stats(), engine.observations.drain())
        assert meter.gauges[metrics.ROWS, "tiny", "running"] == 2
        assert meter.gauges[metrics.ROWS, "tiny", "waiting"] == 1
        assert meter.gauges[metrics.PENDING, "tiny"] > 0
        assert meter.gauges[metrics.CAPACITY, "tiny"] == 4
        short = engine.submit(make_row(num_inference_steps=1))
        wait_until_waiting(engine, 2)
        engine.step()  # the short one takes the place of a long one
        run[0].cancel()
        full = [engine.submit(make_row(num_inference_steps=150)) for _ in range(40)]
        wait_until_settled(engine)
        drive(engine, [run[1], run[2], short, bad])
        for future in full:
            future.cancel()
        drive(engine, full)
        engine.step()
        stats = engine.stats()
        telling.tell(stats, engine.observations.drain())
    answers = {outcome: meter.counts[metrics.ROWS_ANSWERED, "tiny", outcome] for outcome in
               get_args(Outcome)}  # fmt: skip
    assert sum(answers.values()) == 3 + 1 + 1 + 40, "each row once"
    assert (answers["done"], answers["refused"]) == (3, 1)
    assert answers["requeued"] > 0
    assert answers["cancelled"] + answers["requeued"] == 41
    assert meter.counts[metrics.PREVIEWS, "tiny"] == stats.previews > 0
    assert meter.counts[metrics.PARKED, "tiny"] == stats.parked > 0
    assert meter.counts[metrics.LANE_CALLS, "tiny", "rows"] == stats.lane_steps
    lanes = stats.lane_steps + meter.counts[metrics.LANE_CALLS, "tiny", "padding"]
    assert lanes == 4 * stats.steps
    assert meter.counts[metrics.WORK, "tiny"] == pytest.approx(stats.done_s)
    assert meter.counts[metrics.PROMPTS, "tiny", "miss"] == 2  # one prompt, and the empty one
    assert meter.counts[metrics.PROMPTS, "tiny", "hit"] > 0
    assert len(meter.observed[metrics.STEP_TIME, "tiny"]) == stats.steps
    assert sum(meter.observed[metrics.STEP_LANES, "tiny"]) == stats.lane_steps
    assert len(meter.observed[metrics.ROW_TIME, "tiny"]) == 3
    assert len(meter.observed[metrics.ETA_RATIO, "tiny"]) == 3
    first = meter.observed[metrics.FIRST_STEP, "tiny"]
    assert len(first) == len(meter.observed[metrics.QUEUE_WAIT, "tiny"]) >= 4
    assert all(meter.counts[metrics.ENGINE_TIME, "tiny", phase] > 0 for phase in get_args(Phase))


def test_what_goes_wrong_is_told_too(tiny_family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    meter, denoise = Recorded(), tiny_family.denoise
    fault: list[Exception] = []

    def faulty(latents: torch.Tensor, *rest: Any) -> torch.Tensor:
        if fault and len(latents) > 4:
            raise fault[0]
        return denoise(latents, *rest)

    monkeypatch.setattr(tiny_family, "denoise", faulty)
    with driven(tiny_family, lane_buckets=(2, 4, 8)) as engine:
        telling = Telling(meter, "tiny")
        for error in (RuntimeError("a bad row"), torch.OutOfMemoryError("full")):
            fault[:] = [error]
            futures = [engine.submit(make_row(seed=seed)) for seed in range(4)]
            wait_until_waiting(engine, 4)
            engine.step()
            fault.clear()
            drive(engine, futures)
        telling.tell(engine.stats(), engine.observations.drain())
    assert meter.counts[metrics.SPLITS, "tiny", "fault"] == 1
    assert meter.counts[metrics.SPLITS, "tiny", "memory"] == 1
    assert meter.gauges[metrics.CAPACITY, "tiny"] == 4, "half of what ran out of memory"


def test_a_thread_is_in_one_phase_at_a_time() -> None:
    now = [0.0]
    phases = Phases(lambda: now[0])
    for passes, phase in ((5.0, "admit"), (1.0, "model"), (3.0, "idle")):
        now[0] += passes
        phases.enter(phase)  # type: ignore[arg-type]
    now[0] += 0.5
    spent = phases.seconds()
    assert (spent["idle"], spent["admit"], spent["model"]) == (5.5, 1.0, 3.0)
    assert sum(spent.values()) == now[0]


FAILURES: list[tuple[Exception, str]] = [
    (InvalidImage("no image"), "400"),
    (Requeue("full"), "429"),
    (GenerationFailed("not numbers"), "500"),
    (AdapterFailed("broken"), "500"),
    (RuntimeError("a bug"), "500"),
    (EngineFailed("lost"), "503"),
    (ModelNotReady("loads"), "503"),
]


def over(backend: OneColour, meter: Recorded) -> Any:
    return build_app(backend, IngressSettings(), meter=meter)


@pytest.mark.parametrize(("error", "status"), FAILURES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("stream", [False, True])
def test_pictures_that_fail_count_by_their_status(
    error: Exception, status: str, stream: bool
) -> None:
    meter, body = Recorded(), {"prompt": "x", "n": 2, "stream": stream}
    app = over(OneColour(failure=error), meter)
    answer = ask(app, "POST", "/v1/images/generations", json=body)
    assert str(answer.status_code) == status
    images = {key: total for key, total in meter.counts.items() if key[0] is metrics.IMAGES}
    assert images == {(metrics.IMAGES, "tiny", status): 2}
    assert not meter.observed


@pytest.mark.parametrize("stream", [False, True])
def test_pictures_and_bytes_count_by_model_and_route(stream: bool) -> None:
    meter = Recorded()
    app, route = over(OneColour(), meter), "/v1/images/generations"
    answer = ask(app, "POST", route, json={"prompt": "x", "n": 3, "stream": stream})
    assert answer.status_code == 200
    assert meter.counts[metrics.IMAGES, "tiny", "200"] == 3
    assert len(meter.observed[metrics.REQUEST_TIME, "tiny"]) == 1
    assert meter.counts[metrics.REQUEST_BYTES, route] == len(answer.request.content)
    assert meter.counts[metrics.RESPONSE_BYTES, route] == len(answer.content)
    ask(app, "GET", "/no/such/place")
    ask(app, "GET", "/hf/models/any/thing")
    routes = {key[1] for key in meter.counts if key[0] is metrics.RESPONSE_BYTES}
    assert routes == {route, "none", "/hf/models/{id:path}"}


def test_who_leaves_a_stream_counts_as_gone() -> None:
    meter = Recorded()

    async def leave() -> None:
        rows = tuple(make_row(seed=seed) for seed in range(3))
        service = IngressService(OneColour(), IngressSettings(), meter)
        told = service.watch(GenerationRequest(rows=rows), previews=0)
        async for each in told:
            if hasattr(each, "content"):
                break
        await told.aclose()

    asyncio.run(leave())
    assert meter.counts == {
        (metrics.IMAGES, "tiny", "200"): 1,
        (metrics.IMAGES, "tiny", "499"): 2,
    }


def test_the_ledger_tells_of_its_jobs() -> None:
    meter, request = Recorded(), GenerationRequest(rows=(make_row(),))

    async def run() -> None:
        works = Ledger(OneColour().watch_patiently, JobsSettings(), meter=meter)
        await works.start("me", "works", request, previews=0)
        await works.start("me", "gone", request, previews=0)
        works.tell()
        assert meter.gauges == {(metrics.JOBS, "waiting"): 2, (metrics.JOBS, "running"): 0}
        await works.cancel("me", "gone")
        async for _ in works.events("me", "works"):
            pass
        failing = OneColour(failure=GenerationFailed("no"))
        fails = Ledger(failing.watch_patiently, JobsSettings(), meter=meter)
        await fails.start("me", "fails", request, previews=0)
        async for _ in fails.events("me", "fails"):
            pass
        works.tell()

    asyncio.run(run())
    ended = {key[1]: total for key, total in meter.counts.items()}
    assert ended == {"succeeded": 1, "cancelled": 1, "failed": 1}
    assert set(meter.gauges.values()) == {0}


def test_imaging_tells_what_became_of_its_images() -> None:
    meter = Recorded()
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1500, 3), np.uint8)
    buffer = BytesIO()
    Image.fromarray(noise).save(buffer, "png")

    async def prepare() -> None:
        imaging = Imaging(ImagingSettings(max_waiting=2))
        imaging._meter = meter  # type: ignore[assignment]
        threads = imaging._pool._max_workers
        calls = [
            asyncio.create_task(imaging.prepare(content, None, SPEC))
            for content in [buffer.getvalue()] * (threads + 2) + [png()]
        ]
        await asyncio.sleep(0)
        imaging._tell()
        assert meter.gauges == {(metrics.PREPARE_WAITING,): 2}
        calls[-2].cancel()
        await asyncio.wait(calls)
        with pytest.raises(InvalidImage):
            await imaging.prepare(b"no image", None, SPEC)
        assert meter.counts == {
            (metrics.PREPARED, "done"): threads + 1,
            (metrics.PREPARED, "cancelled"): 1,
            (metrics.PREPARED, "full"): 1,
            (metrics.PREPARED, "refused"): 1,
        }
        assert len(meter.observed[(metrics.PREPARE_TIME,)]) == threads + 2

    asyncio.run(prepare())


# Who publishes it


def test_a_counter_that_has_not_moved_moves_nothing() -> None:
    published = Published(serve_metrics, metrics.DIFFUSION, model=("tiny",))
    published.count(metrics.PREVIEWS, 0, model="tiny")  # Ray's own refuses it
    info = published._objects[metrics.STEP_TIME].info
    assert info["name"] == metrics.STEP_TIME.name
    assert info["boundaries"] == list(metrics.STEP_TIME.buckets)
    with pytest.raises(ValueError, match="Missing value for tag key"):
        published.set(metrics.ROWS, 1, model="tiny")


def test_a_replicas_metrics_are_where_prometheus_asks(service: Service) -> None:
    """All that are there without any particular traffic; test_prometheus.py has the others."""
    wanted = {metric.exported for metric in ALL if metric.kind != "histogram"}
    wanted |= {metrics.STEP_TIME.exported, metrics.REQUEST_TIME.exported}
    with service.client() as client:
        generate(client, num_inference_steps=2)

    def scraped() -> dict[str, list[dict[str, str]]]:
        text = httpx.get(f"http://127.0.0.1:{service.metrics_port}/metrics").text
        found: dict[str, list[dict[str, str]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.labels.get("application") == APP:
                    found.setdefault(sample.name.removesuffix("_bucket"), []).append(sample.labels)
        return found

    until(lambda: wanted <= scraped().keys())
    labels = scraped()[metrics.CODEC_WAITS.exported][-1]
    assert labels["model"] == "embedded"
    assert labels["deployment"] == "diffusion-embedded"
    assert labels["replica"]
    outcomes = {labels["outcome"] for labels in scraped()[metrics.ROWS_ANSWERED.exported]}
    assert outcomes == set(get_args(Outcome)), "all of them, also before they happen"


# Who reads it


def exported(name: str) -> str:
    """The metric of a series, which of a histogram has an ending."""
    return re.sub(r"_(bucket|sum|count)$", "", name)


OURS = {metric.exported for metric in ALL}
QUERIES = [*dashboard_queries(), *variable_queries(), *(alert["expr"] for alert in ALERTS)]


def test_metrics_are_found_in_promql() -> None:
    asked = (
        'sum by (a, le) (rate(x_bucket{b="c", d=~"e|f"}[5m] offset 1h)) / on (g) group_left (h) '
        'avg without (i) (j_total) > bool 1e3 or absent(k{l!~"m\\"n"}) '
        "unless histogram_quantile(0.9, o)"
    )
    assert metrics_in(asked) == {"x_bucket", "j_total", "k", "o"}


def test_dashboard_and_alerts_ask_for_what_exists() -> None:
    asked = {name for query in QUERIES for name in metrics_in(query)}
    asked -= {"application", "model"}  # the second words of label_values
    assert {exported(name) for name in asked} == OURS | RAYS, "and for all of it"
    histograms = {metric.exported for metric in ALL if metric.kind == "histogram"}
    assert not asked & histograms, "their series have endings"


def test_queries_ask_for_labels_and_values_that_exist() -> None:
    by_name = {metric.exported: metric for metric in ALL}
    for name, matchers in re.findall(r"(ray_stepwise_\w+)\{([^}]*)\}", " ".join(QUERIES)):
        labels = {"application": metrics.ANY, **by_name[exported(name)].labels}
        for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers):
            values = value.split("|") if "~" in operator else [value]
            assert not labels[label] or {*values} <= {*labels[label]}, (name, label, value)


def test_the_dashboard_has_a_row_for_each_question() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Traffic",
        "Latency",
        "Engine",
        "Capacity and scaling",
        "Imaging",
        "Failures",
    ]
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in DASHBOARD["panels"]]
    assert len(places) == len(set(places)), "two panels at one place"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_every_alert_says_what_to_do() -> None:
    assert 5 <= len(ALERTS) <= 10
    for alert in ALERTS:
        says = alert["annotations"]
        assert says.keys() == {"summary", "description", "runbook"}
        assert says["runbook"] == f"k8s/README.md#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in ("critical", "warning")


@needs_prometheus
def test_promtool_finds_no_fault_with_the_rules(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump(RULES["spec"]))
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", "--lint=all", str(rules))


ONE = 'application="a", model="m"'


def fires(alert: str, at: str, series: dict[str, str], **labels: str) -> dict[str, Any]:
    """A test in promtool's words: not after a minute, but at this time the alert fires."""
    [rule] = [each for each in ALERTS if each["alert"] == alert]
    found = {"alertname": alert, "alertstate": "firing", **rule["labels"], **labels}
    fired = ", ".join(f'{label}="{value}"' for label, value in found.items())
    firing = {"expr": f'ALERTS{{alertname="{alert}", alertstate="firing"}}'}
    return {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {**firing, "eval_time": "1m", "exp_samples": []},
            {
                **firing,
                "eval_time": at,
                "exp_samples": [{"labels": f"ALERTS{{{fired}}}", "value": 1}],
            },
        ],
    }


def cases() -> list[dict[str, Any]]:
    answered = "ray_stepwise_rows_answered_total"
    return [
        fires(
            "StepwiseEngineStalled",
            "4m",
            {f'ray_stepwise_step_age_seconds{{{ONE}, replica="r"}}': "0x4 1+15x20"},
            application="a", model="m", replica="r",
        ),
        fires(
            "StepwiseRecompiles",
            "3m",
            {f'ray_stepwise_compiles_total{{{ONE}, when="serving"}}': "0x8 1x20"},
            application="a", model="m",
        ),
        fires(
            "StepwiseOutOfMemory",
            "3m",
            {f'ray_stepwise_splits_total{{{ONE}, cause="memory"}}': "0x8 1x20"},
            application="a", model="m",
        ),
        fires(
            "StepwiseRowsFailed",
            "25m",
            {
                f'{answered}{{{ONE}, outcome="done"}}': "0+10x200",
                f'{answered}{{{ONE}, outcome="lost"}}': "0x8 0+1x200",
                f'{answered}{{{ONE}, outcome="failed"}}': "0x200",
                f'{answered}{{{ONE}, outcome="requeued"}}': "0+5x200",
            },
            application="a", model="m",
        ),
        fires(
            "StepwiseTurnsAway",
            "20m",
            {
                f'ray_stepwise_images_total{{{ONE}, status="200"}}': "0+10x200",
                f'ray_stepwise_images_total{{{ONE}, status="429"}}': "0x8 0+1x200",
            },
            application="a", model="m",
        ),
        fires(
            "StepwiseWaitsTooLong",
            "25m",
            {
                f'ray_stepwise_queue_wait_seconds_bucket{{{ONE}, le="30.0"}}': "0+8x200",
                f'ray_stepwise_queue_wait_seconds_bucket{{{ONE}, le="60.0"}}': "0+10x200",
                f'ray_stepwise_queue_wait_seconds_bucket{{{ONE}, le="+Inf"}}': "0+10x200",
            },
            application="a", model="m",
        ),
        fires(
            "StepwiseDeploymentUnhealthy",
            "6m",
            {'ray_serve_deployment_status{application="a", deployment="d"}': "6x4 2x40"},
            application="a", deployment="d",
        ),
        fires("StepwiseSilent", "25m", {"ray_stepwise_jobs": "1x8"}),
        fires(
            "StepwiseRowsOfferedAgain",
            "10m",
            {f'ray_stepwise_row_retries_total{{{ONE}, reason="lost"}}': "0x8 0+1x40"},
            application="a", model="m",
        ),
        fires(
            "StepwiseModelStarved",
            "40m",
            {
                f'ray_stepwise_engine_seconds_total{{{ONE}, phase="idle"}}': "0+100x200",
                f'ray_stepwise_engine_seconds_total{{{ONE}, phase="model"}}': "0+4x200",
                f'ray_stepwise_engine_seconds_total{{{ONE}, phase="decode"}}': "0+5x200",
            },
            application="a", model="m",
        ),
    ]  # fmt: skip


@needs_prometheus
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(RULES["spec"]))
    assert len(cases()) == len(ALERTS)
    tests = tmp_path / "tests.yml"
    told = {"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": cases()}
    tests.write_text(yaml.safe_dump(told))
    promtool("test", "rules", str(tests))


def test_waits_are_too_long_at_twice_the_target() -> None:
    config = yaml.safe_load((ROOT / "configs" / "production.yaml").read_text())
    [model] = config["applications"][0]["args"]["models"]
    [rule] = [alert for alert in ALERTS if alert["alert"] == "StepwiseWaitsTooLong"]
    limit_s = float(rule["expr"].rsplit(">", 1)[1])
    assert limit_s == 2 * model["deployment"]["target_wait_s"]
    assert limit_s in metrics.QUEUE_WAIT.buckets, "a quantile between two buckets is a guess"


def test_every_alert_is_in_the_runbook() -> None:
    runbook = (MONITORING.parent.parent / "README.md").read_text()
    for alert in ALERTS:
        assert re.search(rf"^#+ {alert['alert']}$", runbook, re.MULTILINE), alert["alert"]
