"""Clients that ask without a pause, each at its own address, and look at every answer.

All requests have a seed, so what each must show is known beforehand.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from server.client import HOST

TIMEOUT_S = 120.0
PARTIALS = 2
TOLERANCE = 1
"""Of 255: what a row's company may change."""

Pixels = NDArray[np.int16]


class Case(NamedTuple):
    """One request."""

    steps: int
    seed: int
    kind: str
    """`text`, `edit` and `stream` of OpenAI's routes, or `job`: AUTOMATIC1111's, which is one."""


CASES = tuple(
    Case(steps, seed, kind)
    for seed, (steps, kind) in enumerate(
        itertools.product((8, 20, 30, 50), ("text", "edit", "stream", "job")), start=1
    )
)


class Answer(NamedTuple):
    """What came of a request; times are of the monotonic clock."""

    case: Case
    asked_s: float
    answered_s: float
    problem: str
    """Empty where the picture is right."""
    tries: int

    @property
    def took_s(self) -> float:
        """From the first try to the picture."""
        return self.answered_s - self.asked_s


class Load:
    """So many clients at work, until the end of the block."""

    def __init__(
        self, ports: Sequence[int], clients: int, right: Mapping[Case, Pixels], *, tries: int = 1
    ) -> None:
        """A client stays at one of the ports; it goes to the next, up to `tries` times a request,
        when its connection is cut."""
        self._ports, self._right, self._tries = ports, right, tries
        self._changed = threading.Condition()
        self._stopped = False
        self.answers: list[Answer] = []
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, answers: int) -> None:
        """Until so many more have come."""
        with self._changed:
            wanted = len(self.answers) + answers
            self._changed.wait_for(lambda: len(self.answers) >= wanted)

    def _ask(self, client: int) -> None:
        place = client
        for case in itertools.islice(itertools.cycle(CASES), client, None):
            if self._stopped:
                return
            answer = self._answer(case, place)
            place += answer.tries - 1
            with self._changed:
                self.answers.append(answer)
                self._changed.notify_all()

    def _answer(self, case: Case, place: int) -> Answer:
        asked_s, problem, tries = time.monotonic(), "", 0
        while tries < self._tries:
            port = self._ports[(place + tries) % len(self._ports)]
            tries += 1
            try:
                problem = _difference(picture(port, case), self._right[case])
                break
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            except Wrong as error:
                problem = str(error)
                break
        return Answer(case, asked_s, time.monotonic(), problem, tries)


class Wrong(Exception):
    """An answer that is no picture."""


def picture(port: int, case: Case) -> Pixels:
    """Raises Wrong, or httpx.TransportError where the connection failed."""
    with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=TIMEOUT_S) as client:
        return _KINDS[case.kind](client, case)


def _text(client: httpx.Client, case: Case) -> Pixels:
    return _only(client.post("/v1/images/generations", json=_body(case)))


def _edit(client: httpx.Client, case: Case) -> Pixels:
    return _only(
        client.post("/v1/images/edits", data=_body(case), files={"image": ("image.png", _IMAGE)})
    )


def _stream(client: httpx.Client, case: Case) -> Pixels:
    body = {**_body(case), "stream": True, "partial_images": PARTIALS}
    shown: list[int] = []
    with client.stream("POST", "/v1/images/generations", json=body) as answer:
        if answer.status_code != 200:
            raise Wrong(f"{answer.status_code}: {answer.read().decode()[:300]}")
        for line in answer.iter_lines():
            event = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            match event.get("type"):
                case "image_generation.partial_image":
                    shown.append(event["partial_image_index"])
                case "image_generation.completed" if shown == list(range(PARTIALS)):
                    return _pixels(base64.b64decode(event["b64_json"]))
                case "image_generation.completed" | "error":
                    raise Wrong(f"after partial images {shown}: {line[:300]}")
    raise Wrong("the stream ended without a picture")


def _job(client: httpx.Client, case: Case) -> Pixels:
    body = _body(case)
    body["steps"] = body.pop("num_inference_steps")
    answer = client.post("/sdapi/v1/txt2img", json=body)
    if answer.status_code != 200:
        raise Wrong(f"{answer.status_code}: {answer.text[:300]}")
    return _pixels(base64.b64decode(answer.json()["images"][0]))


_KINDS: Mapping[str, Callable[[httpx.Client, Case], Pixels]] = {
    "text": _text,
    "edit": _edit,
    "stream": _stream,
    "job": _job,
}


class Job:
    """A job of one picture, asked for before an event and fetched after it."""

    def __init__(self, port: int, job_id: str, case: Case) -> None:
        self._case, self._job_id = case, job_id
        answer = httpx.post(
            f"http://{HOST}:{port}/v1/jobs",
            json={**_body(case), "id": job_id},
            timeout=TIMEOUT_S,
        )
        if answer.status_code >= 300:
            raise Wrong(f"job: {answer.status_code}: {answer.text[:300]}")

    def problem(self, port: int, right: Pixels) -> str:
        """Waits for its end by its events; empty where its picture is right."""
        url = f"http://{HOST}:{port}/v1/jobs/{self._job_id}"
        try:
            with httpx.stream("GET", f"{url}/events", timeout=TIMEOUT_S) as events:
                events.read()
            answer = httpx.get(url, timeout=TIMEOUT_S)
        except httpx.TransportError as error:
            return f"job: {type(error).__name__}: {error}"
        if answer.status_code != 200 or not answer.json().get("data"):
            return f"job: {answer.status_code}: {answer.text[:300]}"
        return _difference(_pixels(base64.b64decode(answer.json()["data"][0]["b64_json"])), right)


def _body(case: Case) -> dict[str, Any]:
    return {
        "prompt": "a red house on snowy hills at night",
        "seed": case.seed,
        "num_inference_steps": case.steps,
    }


def _only(answer: httpx.Response) -> Pixels:
    if answer.status_code != 200:
        raise Wrong(f"{answer.status_code}: {answer.text[:300]}")
    return _pixels(base64.b64decode(answer.json()["data"][0]["b64_json"]))


def _pixels(content: bytes) -> Pixels:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"), np.int16)


def _difference(seen: Pixels, right: Pixels) -> str:
    if seen.shape != right.shape:
        return f"a picture of {seen.shape} and not {right.shape}"
    most = int(np.abs(seen - right).max())
    return "" if most <= TOLERANCE else f"differs by {most} of 255"


def _image() -> bytes:
    """A picture to edit: a slope of every colour, in noise."""
    rows, columns = np.mgrid[0:300, 0:300]
    noise = np.random.default_rng(1).integers(0, 32, (300, 300))
    pixels = np.stack([rows * 0.7, columns * 0.7, (rows + columns) * 0.35], axis=-1)
    stored = io.BytesIO()
    Image.fromarray((pixels + noise[..., None]).clip(0, 255).astype(np.uint8)).save(stored, "PNG")
    return stored.getvalue()


_IMAGE = _image()
