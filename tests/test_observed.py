"""One request seen from outside: its log lines in every replica, and its spans."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image
from ray import serve
from ray.serve._private.logging_utils import get_serve_logs_dir
from ray.serve.context import _get_global_client
from ray.serve.schema import ApplicationStatus, ServeDeploySchema
from server.serving import local_args

from tests.service import ROOT, WAIT_S, Service

REQUEST_ID = "seen-from.outside_1"
TRIES = 3000
ROOMS = ("ingress", "imaging", "diffusion-embedded")


def config(**tracing: Any) -> ServeDeploySchema:
    """configs/local.yaml with lines in JSON and traces in files, as `serve deploy` reads it."""
    said = yaml.safe_load((ROOT / "configs" / "local.yaml").read_text())
    said["logging_config"] = {"encoding": "JSON"}
    said["tracing_config"] = tracing
    [app] = said["applications"]
    app |= {"name": "observed", "route_prefix": "/observed", "args": local_args()}
    return ServeDeploySchema.model_validate(said)


@pytest.fixture(scope="module")
def answer(service: Service) -> Iterator[httpx.Response]:
    """To an edit, which passes ingress, imaging and diffusion."""
    client = _get_global_client()
    assert client is not None
    client.deploy_apps(config(enabled=True, sampling_ratio=1.0))
    until(is_running)
    image = io.BytesIO()
    Image.new("RGB", (256, 256), "green").save(image, "PNG")
    yield httpx.post(
        f"{service.url}/observed/v1/images/edits",
        data={"prompt": "a red house", "num_inference_steps": "4"},
        files={"image": ("image.png", image.getvalue())},
        headers={"x-request-id": REQUEST_ID},
        timeout=WAIT_S,
    )
    nothing = config(enabled=False)
    nothing.applications = []
    client.deploy_apps(nothing)


def lines_of(room: str) -> list[dict[str, Any]]:
    """What the app's replicas of a deployment have logged: every line is JSON."""
    files = Path(get_serve_logs_dir()).glob(f"replica_observed_{room}_*.log")
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def spans() -> list[dict[str, Any]]:
    """All that Serve's own exporter has written, one document after another."""
    found, decoder = [], json.JSONDecoder()
    for path in (Path(get_serve_logs_dir()) / "spans").glob("*.json"):
        text = path.read_text()
        while text := text.lstrip():
            span, end = decoder.raw_decode(text)
            found.append(span)
            text = text[end:]
    return found


def is_running() -> bool:
    app = serve.status().applications["observed"]
    assert app.status is not ApplicationStatus.DEPLOY_FAILED, app.message
    return app.status is ApplicationStatus.RUNNING


def until(happened: Callable[[], bool]) -> None:
    """Replicas write their last lines after the answer has gone out."""
    for _ in range(TRIES):
        if happened():
            return
        threading.Event().wait(0.1)
    pytest.fail("it did not come to that")


def test_the_answer_has_the_requests_id(answer: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-request-id"] == REQUEST_ID


@pytest.mark.parametrize("room", ROOMS)
def test_its_id_is_in_a_line_of_every_replica_on_its_way(answer: httpx.Response, room: str) -> None:
    until(lambda: any(line.get("request_id") == REQUEST_ID for line in lines_of(room)))


def test_the_engines_own_line_has_the_id_of_request_and_row(answer: httpx.Response) -> None:
    """It is logged on a codec thread, where Serve knows of no request."""
    [line] = [each for each in lines_of("diffusion-embedded") if "row_id" in each]
    assert (line["request_id"], line["row_id"]) == (REQUEST_ID, f"{REQUEST_ID}-0")
    assert " calls of " in line["message"]


def test_the_ingress_logs_who_asked_what_under_the_id(answer: httpx.Response) -> None:
    def said() -> list[str]:
        return [
            each["message"] for each in lines_of("ingress") if "/v1/images/edits" in each["message"]
        ]

    until(lambda: any(REQUEST_ID in message for message in said()))


def test_five_spans_say_where_its_time_went(answer: httpx.Response) -> None:
    all_spans = spans()
    by_id = {span["context"]["span_id"]: span for span in all_spans}
    ours = {span["name"]: span for span in all_spans if span["name"] in PARENTS}
    assert set(ours) == set(PARENTS)
    assert len({span["context"]["trace_id"] for span in ours.values()}) == 1
    for name, span in ours.items():
        parent = by_id[span["parent_id"]]
        assert parent["name"] == f"replica_handle_request {PARENTS[name]}"
        assert parent["attributes"]["request_id"] == REQUEST_ID
        assert parent["start_time"] <= span["start_time"] <= span["end_time"]
        assert span["end_time"] <= parent["end_time"]
    way = ("queue", "steps", "decode", "encode")
    assert {ours[name]["attributes"]["row_id"] for name in way} == {f"{REQUEST_ID}-0"}
    times = [ours[name][end] for name in way for end in ("start_time", "end_time")]
    assert times == sorted(times)


PARENTS = {
    "prepare": "imaging prepare",
    **dict.fromkeys(("queue", "steps", "decode", "encode"), "diffusion-embedded generate"),
}


def test_the_whole_way_is_one_trace(answer: httpx.Response) -> None:
    def ingress() -> list[dict[str, Any]]:
        return [
            span for span in spans() if span["name"] == "replica_handle_request ingress __call__"
        ]

    until(lambda: bool(ingress()))
    [root] = ingress()
    assert root["parent_id"] is None
    traced = [
        span for span in spans() if span["context"]["trace_id"] == root["context"]["trace_id"]
    ]
    assert set(PARENTS) <= {span["name"] for span in traced}
