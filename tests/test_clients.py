"""Real clients, each in an environment of its own, over real HTTP.

`fake` is the app over a backend that paints one colour, `service` the whole graph with the
embedded model. A client that cannot be installed is skipped, and the reason is what was said.
"""

import base64
import io
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deployments.errors import GenerationFailed, Requeue
from deployments.ingress.settings import ResultsSettings
from deployments.requests import GenerationRequest, ImageResult, Progress
from tests.clients import environments, pins
from tests.clients.environments import CannotInstall, Client, installed, run
from tests.clients.serving import Counted, serving
from tests.ingress_backend import CARD, OneColour, app_over, colour_of
from tests.sdapi import Served
from tests.service import Service

pytestmark = pytest.mark.slow

PYTHON_OPENAI = (pins.OPENAI, pins.OPENAI_2)
EVERY_OPENAI = (*PYTHON_OPENAI, pins.OPENAI_NODE, pins.OPENAI_NODE_6)
EVERY_HUGGINGFACE = (pins.HUGGINGFACE, pins.HUGGINGFACE_NODE)
STEPS = 4
"""What the scripts ask for."""


@dataclass(frozen=True)
class Target:
    """What the clients talk to, and files to send it."""

    url: str
    model: str
    side: int
    painted: bool
    """Whether a model painted: then the pictures show more than the colour of their seeds."""
    files: Path

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "side": self.side,
            "size": f"{self.side}x{self.side}",
            "image": str(self.files / "image.png"),
            "mask": str(self.files / "transparent.png"),
        }


@pytest.fixture(scope="module", params=["fake", "service"])
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    files = tmp_path_factory.mktemp("files")
    if request.param == "fake":
        write_files(files, CARD.default_width)
        results = ResultsSettings(folder=str(files / "results"))
        with serving(app_over(Served(), results=results)) as url:
            yield Target(url, CARD.id, CARD.default_width, False, files)
    else:
        service: Service = request.getfixturevalue("service")
        write_files(files, 256)
        yield Target(service.url, "embedded", 256, True, files)


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Client:
    wanted: Client = request.param
    try:
        installed(wanted)
    except CannotInstall as error:
        pytest.skip(f"{wanted.id} cannot be installed here: {error}")
    return wanted


def each(*clients: Client) -> pytest.MarkDecorator:
    """The test once for each client."""
    return pytest.mark.parametrize("client", clients, ids=lambda one: one.id, indirect=True)


def write_files(folder: Path, side: int) -> None:
    """A photograph's worth of structure, and masks that open its right half."""
    y, x = np.mgrid[0:side, 0:side] / side
    pixels = np.stack([np.sin(3 * x + y), np.cos(2 * y - x), x * y], -1) * 90 + 128
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    image.save(folder / "image.png")
    opened = Image.new("L", image.size, 0)
    opened.paste(255, (side // 2, 0, side, side))
    opened.save(folder / "white.png")
    image.putalpha(opened.point(lambda value: 255 - value))
    image.save(folder / "transparent.png")


def test_a_client_that_cannot_be_installed_is_named_with_the_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    nowhere = Client(name="openai", version="0.0.0", script="openai_sdk.py")
    with pytest.raises(CannotInstall, match=r"No matching .* openai==0\.0\.0"):
        installed(nowhere)


@each(*EVERY_OPENAI)
def test_openai_generates(client: Client, target: Target) -> None:
    said = run(client, target.url, "generate", **target.settings)
    check_pictures(target, said["pictures"], seeds=[7, 8])
    assert said["seeds"] == [7, 8]
    assert said["size"] == target.settings["size"]
    assert target.model in said["models"]
    assert said["request_id"], "Serve's proxy makes one of its own where there is a proxy"
    tokens_in, tokens_out, total = said["usage"]
    assert tokens_in > 0
    assert tokens_in + tokens_out == total


@each(*PYTHON_OPENAI)
def test_openai_asks_for_several_at_once(client: Client, target: Target) -> None:
    said = run(client, target.url, "async", **target.settings)
    check_pictures(target, said["pictures"], seeds=[7, 8])
    assert said["seeds"] == [7, 8]


@each(*EVERY_OPENAI)
def test_openai_hears_a_stream(client: Client, target: Target) -> None:
    said = run(client, target.url, "stream", **target.settings)
    check_stream(target, said, "image_generation", partials=2)
    whole = run(client, target.url, "generate", **target.settings)
    streamed, sent = pixels(said["events"][-1]["b64_json"]), pixels(whole["pictures"][0])
    # A row beside another may round otherwise.
    assert np.abs(streamed - sent).max() <= (2 if target.painted else 0)


@each(*PYTHON_OPENAI)
def test_openai_hears_the_stream_of_an_edit(client: Client, target: Target) -> None:
    said = run(client, target.url, "stream_edit", **target.settings)
    check_stream(target, said, "image_edit", partials=1)


@each(*EVERY_OPENAI)
def test_openai_edits_inside_the_mask(client: Client, target: Target) -> None:
    said = run(client, target.url, "edit", **target.settings)
    check_pictures(target, said["pictures"], seeds=[7])
    assert said["seeds"] == [7]
    check_mask(target, said["pictures"][0])


@each(*PYTHON_OPENAI)
def test_openai_asks_for_variations(client: Client, target: Target) -> None:
    said = run(client, target.url, "variation", **target.settings)
    assert len(said["pictures"]) == 2
    assert said["pictures"][0] != said["pictures"][1]
    assert {pixels(picture).shape for picture in said["pictures"]} == {square(target)}


@each(*PYTHON_OPENAI)
def test_openai_fetches_by_url(client: Client, target: Target) -> None:
    said = run(client, target.url, "url", **target.settings)
    assert said["b64_json"] is None
    assert said["content_type"] == "image/png"
    check_pictures(target, [base64.b64encode(bytes.fromhex(said["file"])).decode()], seeds=[7])


@each(*EVERY_OPENAI)
def test_openai_raises_the_error_of_an_unknown_model(client: Client, target: Target) -> None:
    said = run(client, target.url, "refused", **target.settings | {"model": "nonesuch"})
    said.pop("version", None)
    assert said == {
        "kind": "NotFoundError",
        "status": 404,
        "code": "model_not_found",
        "param": "model",
        "type": "invalid_request_error",
    }


class BusyOnce(OneColour):
    """Has no room for the first request."""

    async def generate(self, request: GenerationRequest) -> list[ImageResult]:
        self.failure = None if self.asked else Requeue("the queue is full", pending_s=0.2)
        return await super().generate(request)


class FailsLate(OneColour):
    """Every row fails at its last step."""

    async def watch(
        self, request: GenerationRequest, *, previews: int
    ) -> AsyncGenerator[Progress | ImageResult]:
        async for told in super().watch(request, previews=previews):
            if isinstance(told, ImageResult):
                raise GenerationFailed("the latents stopped being numbers")
            yield told


@each(*EVERY_OPENAI)
def test_openai_tries_again_after_a_429(client: Client, tmp_path: Path) -> None:
    backend = BusyOnce()
    app = Counted(app_over(backend))
    with serving(app) as url:
        target = Target(url, CARD.id, CARD.default_width, False, tmp_path)
        said = run(client, url, "generate", **target.settings)
    check_pictures(target, said["pictures"], seeds=[7, 8])
    assert app.paths.count("/v1/images/generations") == len(backend.asked) == 2


@each(*EVERY_OPENAI)
def test_openai_does_not_repeat_what_would_fail_again(client: Client, tmp_path: Path) -> None:
    app = Counted(app_over(OneColour(failure=GenerationFailed("not a number"))))
    with serving(app) as url:
        target = Target(url, CARD.id, CARD.default_width, False, tmp_path)
        said = run(client, url, "refused", **target.settings)
    assert (said["kind"], said["code"]) == ("InternalServerError", "generation_failed")
    assert app.paths == ["/v1/images/generations"]


@each(*EVERY_OPENAI)
def test_openai_raises_the_error_inside_a_stream(client: Client, tmp_path: Path) -> None:
    with serving(app_over(FailsLate())) as url:
        target = Target(url, CARD.id, CARD.default_width, False, tmp_path)
        said = run(client, url, "stream", **target.settings)
    assert [event["type"] for event in said["events"]] == ["image_generation.partial_image"] * 2
    assert said["error"]["code"] == "generation_failed"
    assert "the latents stopped being numbers" in said["error"]["message"]


@each(*EVERY_HUGGINGFACE)
def test_hugging_face_text_to_image(client: Client, target: Target) -> None:
    said = run(client, target.url, "text_to_image", **target.settings)
    check_pictures(target, said["pictures"], seeds=[7], exact=False)


@each(*EVERY_HUGGINGFACE)
def test_hugging_face_image_to_image(client: Client, target: Target) -> None:
    said = run(client, target.url, "image_to_image", **target.settings)
    check_pictures(target, said["pictures"], seeds=[7], exact=False)


@each(pins.HUGGINGFACE)
def test_hugging_face_sends_the_bare_image(client: Client, target: Target) -> None:
    said = run(client, target.url, "bare_image", **target.settings)
    assert pixels(said["pictures"][0]).shape == square(target)


@each(pins.TOGETHER)
def test_together(client: Client, target: Target) -> None:
    said = run(client, target.url, "generate", **target.settings)
    check_pictures(target, said["pictures"], seeds=[7, 8], exact=False)
    assert said["seeds"] == [7, 8]


@each(pins.LANGCHAIN)
def test_langchain_reads_addresses(client: Client, tmp_path: Path) -> None:
    results = ResultsSettings(folder=str(tmp_path))
    app = app_over(OneColour(), results=results, default_response_format="url")
    with serving(app) as url:
        target = Target(url, CARD.id, CARD.default_width, False, tmp_path)
        said = run(client, url, "generate", **target.settings)
    assert [pixels(bytes.fromhex(file)).shape for file in said["files"]] == [square(target)] * 2


@pytest.mark.parametrize("scenario", ["generate", "async", "edit"])
@each(pins.LITELLM)
def test_litellm(client: Client, target: Target, scenario: str) -> None:
    said = run(client, target.url, scenario, **target.settings)
    check_pictures(target, said["pictures"], seeds=[7] if scenario == "edit" else [7, 8])


@each(pins.WEBUIAPI)
def test_webuiapi_text_to_image(client: Client, target: Target) -> None:
    said = run(client, target.url, "txt2img", **target.settings)
    check_pictures(target, said["pictures"], seeds=[7, 8, 9, 10])
    assert said["info"]["all_seeds"] == [7, 8, 9, 10]
    assert (said["info"]["seed"], said["info"]["steps"]) == (7, STEPS)
    assert said["info"]["negative_prompt"] == "fog"
    assert said["info"]["infotexts"][0] == said["chunk"]
    assert "Seed: 7" in said["chunk"]


@each(pins.WEBUIAPI)
def test_webuiapi_paints_what_is_white(client: Client, target: Target) -> None:
    mask = str(target.files / "white.png")
    said = run(client, target.url, "img2img", **target.settings | {"mask": mask})
    check_pictures(target, said["pictures"], seeds=[7])
    check_mask(target, said["pictures"][0])


@each(pins.WEBUIAPI)
def test_webuiapi_reads_the_lists(client: Client, target: Target) -> None:
    said = run(client, target.url, "lists", **target.settings)
    assert said["current_model"] in said["models"]
    assert any(target.model in model for model in said["models"])
    assert "Euler" in said["samplers"]
    assert said["schedulers"]
    assert said["empty"][:2] == [[], []]
    assert said["progress"]["progress"] == 0
    assert said["progress"]["state"]["job_count"] == 0


@each(pins.NODE_SD_WEBUI)
def test_node_sd_webui_sends_only_a_prompt(client: Client, target: Target) -> None:
    said = run(client, target.url, "txt2img", **target.settings)
    assert len(said["pictures"]) == 1
    assert '"prompt"' in said["info"]


@each(pins.NODE_SD_WEBUI)
def test_node_sd_webui_image_to_image(client: Client, target: Target) -> None:
    said = run(client, target.url, "img2img", **target.settings)
    check_pictures(target, said["pictures"], seeds=[7])


def check_pictures(
    target: Target, pictures: list[str], *, seeds: list[int], exact: bool = True
) -> None:
    """One picture for each seed, of the size asked for; `exact` is for a lossless format."""
    assert len(pictures) == len(seeds)
    for picture, seed in zip(pictures, seeds, strict=True):
        shown = pixels(picture)
        assert shown.shape == square(target)
        if target.painted:
            assert shown.std() > 5, "one colour"
        else:
            assert np.abs(shown - colour_of(seed)).max() <= (0 if exact else 6)


def check_stream(target: Target, said: dict[str, Any], kind: str, *, partials: int) -> None:
    """So many partial images in their order, then the whole picture."""
    assert said["error"] is None
    *shown, last = said["events"]
    assert [event["type"] for event in shown] == [f"{kind}.partial_image"] * partials
    assert [event["partial_image_index"] for event in shown] == list(range(partials))
    assert last["type"] == f"{kind}.completed"
    assert last["usage"]["total_tokens"] > 0
    check_pictures(target, [last["b64_json"]], seeds=[7])
    for event in said["events"]:
        assert event["b64_json"]
        assert event["created_at"] > 1_700_000_000
        assert event["size"] == target.settings["size"]
        assert {"background", "output_format", "quality"} <= set(event)


def check_mask(target: Target, picture: str) -> None:
    """The left of the picture is as it was, and the right is another."""
    if not target.painted:
        return  # one colour has no halves
    changed = np.abs(pixels(picture) - pixels((target.files / "image.png").read_bytes())).mean(-1)
    quarter = target.side // 4
    assert changed[:, :quarter].max() < 3
    assert changed[:, -quarter:].mean() > 10


def pixels(picture: str | bytes) -> NDArray[np.int16]:
    content = picture if isinstance(picture, bytes) else base64.b64decode(picture)
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(np.int16)


def square(target: Target) -> tuple[int, int, int]:
    return (target.side, target.side, 3)
