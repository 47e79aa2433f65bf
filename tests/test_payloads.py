"""What applications send, replayed to the letter of their sources: Open WebUI 0.12, SillyTavern.

They cannot be installed for a test. Each test reads of an answer what the application reads.
"""

import json
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from tests.ingress_backend import app_over, ask, colour_of, png
from tests.sdapi import Served, opened

PROMPT = "a red house on green hills at day"
NOBODY = {"authorization": "Basic "}
"""Of both applications where no password is set."""

SILLYTAVERN = {
    "url": "http://127.0.0.1:7860",
    "auth": "",
    "prompt": f"best quality, absurdres, aesthetic, {PROMPT}",
    "negative_prompt": "lowres, bad anatomy, text, error, cropped, worst quality",
    "sampler_name": "DDIM",
    "scheduler": "normal",
    "steps": 20,
    "cfg_scale": 7,
    "width": 512,
    "height": 512,
    "restore_faces": False,
    "enable_hr": False,
    "hr_upscaler": "Latent",
    "hr_scale": 1,
    "hr_additional_modules": [],
    "denoising_strength": 0.7,
    "hr_second_pass_steps": 0,
    "override_settings": {"CLIP_stop_at_last_layers": 1},
    "override_settings_restore_afterwards": True,
    "clip_skip": 1,
    "save_images": True,
    "send_images": True,
    "do_not_save_grid": False,
    "do_not_save_samples": False,
}
"""At the settings that it has when new."""


@pytest.fixture
def backend() -> Served:
    return Served(max_side=512)


@pytest.fixture
def app(backend: Served) -> ASGIApp:
    return app_over(backend)


def told(app: ASGIApp, method: str, path: str, **sent: Any) -> Any:
    answer: httpx.Response = ask(app, method, path, **sent)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("query", ["", "?api-version=2025-04-01-preview"])
@pytest.mark.parametrize("response_format", [{"response_format": "b64_json"}, {}])
def test_open_webui_generates_as_openai(
    app: ASGIApp, backend: Served, query: str, response_format: dict[str, str]
) -> None:
    said = told(
        app,
        "POST",
        f"/v1/images/generations{query}",
        headers={"authorization": "Bearer ", "content-type": "application/json"},
        json={"model": "tiny", "prompt": PROMPT, "n": 2, "size": "64x96", **response_format},
    )
    # It prefers an address, and then refuses one of a private network.
    assert [each.get("url") for each in said["data"]] == [None, None]
    for each, row in zip(said["data"], backend.asked[0].rows, strict=True):
        assert opened(each["b64_json"]).size == (64, 96)
        assert row.prompt == PROMPT


@pytest.mark.parametrize("name", ["image", "image[]"])
def test_open_webui_edits_as_openai(app: ASGIApp, backend: Served, name: str) -> None:
    picture = png(64, 64)
    said = told(
        app,
        "POST",
        "/v1/images/edits",
        headers={"authorization": "Bearer key"},
        data={
            "model": "tiny",
            "prompt": PROMPT,
            "n": "1",
            "size": "64x64",
            "background": "auto",
            "response_format": "b64_json",
        },
        files={name: ("0b9ae1f4-5b1e-4d38-9d9e-fb3a1d2f5a10.png", picture, "image/png")},
    )
    (data,) = said["data"]
    assert "url" not in data
    assert opened(data["b64_json"]).size == (64, 64)
    assert backend.asked[0].image == picture


def test_open_webui_chooses_a_model_of_automatic1111(app: ASGIApp) -> None:
    options = told(app, "GET", "/sdapi/v1/options", headers=NOBODY)
    listed = told(app, "GET", "/sdapi/v1/sd-models", headers=NOBODY)
    choices = [{"id": model["title"], "name": model["model_name"]} for model in listed]
    assert {"id": options["sd_model_checkpoint"], "name": "tiny"} in choices
    # All of them come back, whichever was changed.
    told(app, "POST", "/sdapi/v1/options", headers=NOBODY, json=options)


@pytest.mark.parametrize(
    ("more", "scheduler"),
    [
        ({}, "EulerDiscreteScheduler"),
        ({"sampler_name": "DPM++ 2M", "scheduler": "Karras", "cfg_scale": 5}, "DPM++ 2M Karras"),
    ],
)
def test_open_webui_generates_as_automatic1111(
    app: ASGIApp, backend: Served, more: dict[str, Any], scheduler: str
) -> None:
    body = {"prompt": PROMPT, "batch_size": 2, "width": 64, "height": 96, "steps": 6}
    body |= {"negative_prompt": "fog", **more}
    said = told(app, "POST", "/sdapi/v1/txt2img", headers=NOBODY, json=body)
    seeds = json.loads(said["info"])["all_seeds"]
    assert seeds[1] == seeds[0] + 1
    for image, seed in zip(said["images"], seeds, strict=True):
        assert opened(image).size == (64, 96)
        assert opened(image).convert("RGB").getpixel((0, 0)) == colour_of(seed)
    row = backend.asked[0].rows[0]
    assert (row.scheduler, row.num_inference_steps, row.negative_prompt) == (scheduler, 6, "fog")


def test_sillytavern_connects(app: ASGIApp) -> None:
    def names(path: str, key: str = "name") -> list[str]:
        listed = told(app, "GET", f"/sdapi/v1/{path}", headers=NOBODY)
        return [each[key] for each in listed]

    options = told(app, "GET", "/sdapi/v1/options", headers=NOBODY)
    assert "forge_preset" not in options  # else it would send fields of another program
    assert {"Euler", "DDIM"} <= set(names("samplers"))
    assert "automatic" in names("schedulers")
    assert names("upscalers") == names("latent-upscale-modes") == []
    assert names("sd-vae", "model_name") == []
    assert options["sd_model_checkpoint"] in names("sd-models", "title")


def test_sillytavern_sets_the_model_and_waits(app: ASGIApp) -> None:
    sent = {"sd_model_checkpoint": "tiny"}
    told(app, "POST", "/sdapi/v1/options", headers=NOBODY, json=sent)
    now = told(app, "GET", "/sdapi/v1/progress", headers=NOBODY)
    assert (now["progress"], now["state"]["job_count"]) == (0, 0)


def test_sillytavern_generates(app: ASGIApp, backend: Served) -> None:
    said = told(app, "POST", "/sdapi/v1/txt2img", headers=NOBODY, json=SILLYTAVERN)
    assert opened(said["images"][0]).size == (512, 512)
    (row,) = backend.asked[0].rows
    assert (row.scheduler, row.num_inference_steps, row.guidance_scale) == ("DDIM", 20, 7)
    assert row.negative_prompt == SILLYTAVERN["negative_prompt"]


def test_sillytavern_keeps_a_seed_and_interrupts(app: ASGIApp) -> None:
    chosen = {"seed": 7, "sampler_name": "DPM++ 2M", "scheduler": "Karras"}
    said = told(app, "POST", "/sdapi/v1/txt2img", headers=NOBODY, json=SILLYTAVERN | chosen)
    assert opened(said["images"][0]).convert("RGB").getpixel((9, 9)) == colour_of(7)
    told(app, "POST", "/sdapi/v1/interrupt", headers=NOBODY)
