"""AUTOMATIC1111's routes over a backend without a GPU: fields, answers, errors, jobs by caller."""

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deployments.errors import EngineFailed, GenerationFailed, Requeue, StepwiseError
from deployments.imaging.metadata import parameters_of
from deployments.imaging.prepare import prepare
from deployments.imaging.settings import ImagingSettings
from deployments.ingress.routes import build_app
from deployments.ingress.settings import IngressSettings
from deployments.requests import (
    PrepareSpec,
)
from tests.ingress_backend import CARD, OneColour, app_over, ask, colour_of, png
from tests.sdapi import (
    IMG2IMG,
    PROMPT,
    TXT2IMG,
    Served,
    base64_of,
    get,
    opened,
    post,
    refused,
    webuiapi_body,
)


def test_what_webuiapi_sends_is_taken_without_a_warning() -> None:
    backend = Served()
    answer = post(backend, TXT2IMG, webuiapi_body(width=64, height=96))
    assert answer.status_code == 200, answer.text
    assert answer.json()["warnings"] == []
    (row,) = backend.asked[0].rows
    assert (row.prompt, row.width, row.height) == ("a red house", 64, 96)
    assert (row.num_inference_steps, row.guidance_scale, row.scheduler) == (20, 7.0, "Euler a")
    assert (row.strength, row.prompt_weighting, row.output_format) == (None, True, "png")
    assert row.seed < 2**32


def test_a_prompt_alone_gets_the_web_uis_defaults() -> None:
    backend = Served(max_side=1024)
    assert post(backend, TXT2IMG, PROMPT).status_code == 200
    (row,) = backend.asked[0].rows
    assert (row.width, row.height, row.num_inference_steps) == (512, 512, 50)
    assert (row.guidance_scale, row.negative_prompt) == (7.0, "")
    assert row.scheduler == CARD.default_scheduler


def test_no_field_is_required() -> None:
    backend = Served()
    assert post(backend, TXT2IMG, {}).status_code == 200
    assert backend.asked[0].rows[0].prompt == ""


def test_defaults_stay_within_what_the_model_offers() -> None:
    backend = Served(max_steps=8, max_guidance=1.0)
    assert post(backend, TXT2IMG, PROMPT).status_code == 200
    (row,) = backend.asked[0].rows
    assert (row.width, row.height) == (CARD.default_width, CARD.default_height)
    assert (row.num_inference_steps, row.guidance_scale) == (8, 1.0)


def test_the_answer_has_what_clients_read() -> None:
    sent = {**PROMPT, "negative_prompt": "fog", "seed": 7, "batch_size": 2, "n_iter": 2}
    sent |= {"width": 64, "height": 32, "steps": 5, "sampler_name": "DPM++ 2M Karras"}
    body = post(Served(), TXT2IMG, sent).json()
    assert set(body) == {"images", "parameters", "info", "warnings"}
    assert {name: body["parameters"][name] for name in sent} == sent
    pictures = [opened(image) for image in body["images"]]
    assert [each.getpixel((3, 3)) for each in pictures] == [colour_of(7 + i) for i in range(4)]
    assert [each.size for each in pictures] == [(64, 32)] * 4
    info = json.loads(body["info"])
    assert info.pop("job_timestamp").isdecimal()
    texts = info.pop("infotexts")
    assert texts == [each.info["parameters"] for each in pictures]
    assert [f"Seed: {7 + i}," in text for i, text in enumerate(texts)] == [True] * 4
    assert info == {
        "prompt": "a red house",
        "all_prompts": ["a red house"] * 4,
        "negative_prompt": "fog",
        "all_negative_prompts": ["fog"] * 4,
        "seed": 7,
        "all_seeds": [7, 8, 9, 10],
        "subseed": -1,
        "all_subseeds": [-1] * 4,
        "subseed_strength": 0.0,
        "width": 64,
        "height": 32,
        "sampler_name": "DPM++ 2M",
        "cfg_scale": 7.0,
        "steps": 5,
        "batch_size": 2,
        "restore_faces": False,
        "sd_model_name": "tiny",
        "sd_model_hash": "",
        "denoising_strength": None,
        "extra_generation_params": {"Schedule type": "Karras"},
        "index_of_first_image": 0,
        "styles": [],
        "clip_skip": 1,
        "is_using_inpainting_conditioning": False,
        "interrupted": False,
    }


@pytest.mark.parametrize(
    ("sent", "scheduler"),
    [
        ({"sampler_index": "Euler a"}, "Euler a"),
        ({"sampler_name": "Euler a", "sampler_index": "Euler"}, "Euler a"),
        ({"sampler_name": "euler_ancestral", "scheduler": "Automatic"}, "Euler a"),
        ({"sampler_name": "DPM++ 2M", "scheduler": "Karras"}, "DPM++ 2M Karras"),
        ({"sampler_name": "DPM++ 2M", "scheduler": "beta"}, "DPM++ 2M Beta"),
        ({"sampler_name": "DPM++ 2M Karras", "scheduler": "karras"}, "DPM++ 2M Karras"),
        ({"scheduler": "automatic"}, CARD.default_scheduler),
        ({"sampler_name": "", "scheduler": None}, CARD.default_scheduler),
    ],
)
def test_sampler_and_scheduler_become_one_name(sent: dict[str, Any], scheduler: str) -> None:
    backend = Served()
    assert post(backend, TXT2IMG, {**PROMPT, **sent}).status_code == 200
    assert backend.asked[0].rows[0].scheduler == scheduler


def test_the_model_is_chosen_by_each_request() -> None:
    backend = Served()
    sent = {**PROMPT, "override_settings": {"sd_model_checkpoint": "other", "eta_ddim": 0.3}}
    body = post(backend, TXT2IMG, sent).json()
    assert backend.asked[0].rows[0].model == "other"
    assert json.loads(body["info"])["sd_model_name"] == "other"
    assert body["warnings"] == [
        "override_settings: ignored 'eta_ddim'; only sd_model_checkpoint counts"
    ]


def test_what_sillytavern_overrides_by_default_is_no_news() -> None:
    sent = {**PROMPT, "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"}}
    assert post(Served(), TXT2IMG, sent).json()["warnings"] == []


def test_what_is_ignored_is_told() -> None:
    sent = {**PROMPT, "styles": ["noir"], "clip_skip": 2, "save_images": True, "unheard_of": 1}
    assert post(Served(), TXT2IMG, sent).json()["warnings"] == [
        "styles ['noir'] was ignored; it is not offered",
        "save_images True was ignored; it is not offered",
        "clip_skip 2 was ignored; it is not offered",
    ]


def test_pictures_stay_here_if_the_client_wants_none() -> None:
    body = post(Served(), TXT2IMG, {**PROMPT, "send_images": False}).json()
    assert body["images"] == []
    assert len(json.loads(body["info"])["infotexts"]) == 1


def test_metadata_can_be_switched_off() -> None:
    backend = Served()
    app = build_app(backend, IngressSettings(picture_metadata="off"))
    body = ask(app, "POST", TXT2IMG, json=PROMPT).json()
    assert "parameters" not in opened(body["images"][0]).info


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_an_image_and_its_mask_reach_the_backend(prefix: str) -> None:
    backend, picture, mask = Served(), png(), png(mode="L")
    sent = {
        **PROMPT,
        "init_images": [prefix + base64_of(picture)],
        "mask": prefix + base64_of(mask),
        "width": 64,
        "height": 64,
        "mask_blur": 6,
        "inpainting_fill": 0,
        "resize_mode": 1,
    }
    body = post(backend, IMG2IMG, sent).json()
    (request,) = backend.asked
    assert (request.image, request.mask) == (picture, mask)
    assert request.prepare is not None
    assert request.prepare.mask_polarity == "white"
    assert (request.prepare.mask_blur, request.prepare.resize_mode) == (6.0, "crop")
    assert request.rows[0].strength == 0.75
    assert body["warnings"] == ["inpainting_fill 0 was ignored; it is not offered"]
    assert (body["parameters"]["init_images"], body["parameters"]["mask"]) == (None, None)
    assert "Denoising strength: 0.75" in json.loads(body["info"])["infotexts"][0]


def test_an_inverted_mask_paints_what_is_black() -> None:
    backend = Served()
    picture = base64_of(png())
    sent = {**PROMPT, "init_images": [picture], "mask": picture, "inpainting_mask_invert": 1}
    body = post(backend, IMG2IMG, {**sent, "include_init_images": True}).json()
    assert body["parameters"]["init_images"] == [picture]
    spec = backend.asked[0].prepare
    assert spec is not None
    assert spec.mask_polarity == "black"
    assert (spec.mask_blur, spec.resize_mode) == (4.0, "stretch")  # the web UI's own
    exact = PrepareSpec(width=48, height=32, latent_factor=8, mask_polarity="black")
    white = replace(exact, mask_polarity="white")
    masks = [prepare(png(), png(), each, ImagingSettings()).mask for each in (exact, white)]
    assert masks[0] is not None
    assert masks[1] is not None
    assert np.array_equal(masks[0], 1 - masks[1])
    assert 0 < masks[0].mean() < 1


@pytest.mark.parametrize(
    ("sent", "names"),
    [
        ({"steps": "20"}, ("steps", "integer", "string")),
        ({"prompt": 3}, ("prompt", "string")),
        ({"seed": -5}, ("seed", "-5")),
        ({"steps": 0}, ("steps must be from 1 to 100", "0")),
        ({"cfg_scale": 31}, ("cfg_scale must be", "31")),
        ({"width": 100, "height": 64}, ("100x64", "96x64")),
        ({"batch_size": 0}, ("batch_size must be from 1 to 10", "0")),
        ({"batch_size": 4, "n_iter": 3}, ("batch_size * n_iter must be from 1 to 10", "12")),
        ({"enable_hr": True}, ("enable_hr", "false")),
        ({"restore_faces": True}, ("restore_faces", "false")),
        ({"tiling": True}, ("tiling", "false")),
        ({"subseed_strength": 0.1}, ("subseed_strength", "send 0")),
        ({"script_name": "x/y/z plot"}, ("script_name", "x/y/z plot")),
        ({"alwayson_scripts": {"ADetailer": {}}}, ("alwayson_scripts", "ADetailer")),
        ({"override_settings": {"sd_model_checkpoint": 3}}, ("sd_model_checkpoint", "string")),
        ({"override_settings": []}, ("override_settings", "object")),
        ({"width": 10**400, "height": 64}, ("size 1000", "nearest valid size is 256x64")),
        ({"batch_size": 10**4000, "n_iter": 10**4000}, ("batch_size must be from 1 to 10",)),
    ],
)
def test_a_field_that_cannot_be_used_is_named(sent: dict[str, Any], names: tuple[str, ...]) -> None:
    detail = refused(TXT2IMG, {**PROMPT, **sent})
    assert all(name in detail for name in names), detail


@pytest.mark.parametrize(
    ("sent", "begins"),
    [
        ({"init_images": ["!not base64"]}, "init_images is not base64"),
        ({"init_images": [base64_of(b"GIF89a")]}, "init_images is not a PNG"),
        ({"init_images": ["https://example.com/a.png"]}, "init_images is the address"),
        ({"init_images": []}, "init_images must have exactly 1 entry"),
        ({}, "init_images is missing"),
        ({"init_images": [base64_of(png())] * 2}, "init_images must have exactly 1 entry"),
        ({"override_settings": [1]}, "override_settings must be an object"),
        ({"override_settings": {"a": "b" * 200_000}}, "override_settings is longer than"),
        ({"alwayson_scripts": {"controlnet": {}}}, "alwayson_scripts"),
        ({"init_images": "text"}, "init_images must be an array"),
        ({"mask": "#"}, "mask is not base64"),
        ({"resize_mode": 3}, "resize_mode 3"),
        ({"mask": base64_of(png()), "mask_blur": 65}, "mask_blur must be a number from 0 to 64"),
        ({"denoising_strength": 0}, "denoising_strength must be above 0"),
        ({"denoising_strength": 0.01, "steps": 20}, "denoising_strength 0.01 of steps 20"),
    ],
)
def test_a_picture_that_cannot_be_used_is_refused(sent: dict[str, Any], begins: str) -> None:
    given = {**PROMPT, **({} if sent == {} else {"init_images": [base64_of(png())]}), **sent}
    assert refused(IMG2IMG, given).startswith(begins)


def test_what_is_not_there_is_404() -> None:
    assert "'DPM++ 9Z'" in refused(TXT2IMG, {**PROMPT, "sampler_name": "DPM++ 9Z"}, 404)
    assert "'Euler a Karras'" in refused(
        TXT2IMG, {**PROMPT, "sampler_name": "Euler a", "scheduler": "Karras"}, 404
    )
    named = {"override_settings": {"sd_model_checkpoint": "sdxl"}}
    assert "'sdxl'" in refused(TXT2IMG, {**PROMPT, **named}, 404)


def test_bodies_are_read_as_elsewhere() -> None:
    app = app_over(Served(), max_body_mb=0.001)
    assert ask(app, "POST", TXT2IMG, content=b"{}").status_code == 422
    as_json = {"content-type": "application/json"}
    assert ask(app, "POST", TXT2IMG, content=b"{", headers=as_json).status_code == 422
    assert ask(app, "POST", IMG2IMG, content=b"x" * 2000, headers=as_json).status_code == 413


@pytest.mark.parametrize(
    ("failure", "status", "header"),
    [
        (Requeue("full", pending_s=7), 429, ("retry-after", "7")),
        (GenerationFailed("no numbers"), 500, ("x-should-retry", "false")),
        (EngineFailed("lost"), 503, ("retry-after", "5")),
    ],
)
def test_a_failed_job_answers_with_its_error(
    failure: StepwiseError, status: int, header: tuple[str, str]
) -> None:
    answer = post(Served(failure=failure), TXT2IMG, PROMPT)
    assert answer.status_code == status
    assert answer.json() == {
        "error": type(failure).__name__,
        "detail": failure.message,
        "body": "",
        "errors": failure.message,
    }
    assert answer.headers[header[0]] == header[1]


def test_the_lists_say_what_is_on_offer() -> None:
    assert [each["name"] for each in get("samplers")] == [
        "Euler",
        "Euler a",
        "DPM++ 2M",
        "UniPC",
        "DDIM",
    ]
    assert get("samplers")[0] == {"name": "Euler", "aliases": [], "options": {}}
    schedulers = {each["name"]: each for each in get("schedulers")}
    assert list(schedulers) == ["automatic", "karras", "beta"]
    assert schedulers["karras"] == {
        "name": "karras",
        "label": "Karras",
        "aliases": [],
        "default_rho": 7.0,
        "need_inner_model": False,
    }
    assert [each["title"] for each in get("sd-models")] == ["tiny", "other"]
    assert set(get("sd-models")[0]) == {
        "title",
        "model_name",
        "hash",
        "sha256",
        "filename",
        "config",
    }
    assert get("scripts") == {"txt2img": [], "img2img": []}
    for name in ("upscalers", "latent-upscale-modes", "sd-vae", "face-restorers"):
        assert get(name) == []


def test_a_model_with_class_names_alone_offers_these() -> None:
    answer = ask(app_over(OneColour()), "GET", "/sdapi/v1/samplers")
    assert [each["name"] for each in answer.json()] == list(CARD.schedulers)


def test_options_can_be_posted_back_as_they_are() -> None:
    options = get("options")
    assert options["sd_model_checkpoint"] == "tiny"
    answer = post(Served(), "/sdapi/v1/options", {**options, "live_previews": True})
    assert (answer.status_code, answer.json()) == (200, None)
    assert post(Served(), "/sdapi/v1/refresh-checkpoints", {}).json() is None


def test_the_model_is_not_switched_for_everybody() -> None:
    wanted = {"sd_model_checkpoint": "other"}
    assert "override_settings" in refused("/sdapi/v1/options", wanted)
    assert "'sdxl'" in refused("/sdapi/v1/options", {"sd_model_checkpoint": "sdxl"}, 404)


def test_png_info_reads_what_the_picture_says() -> None:
    picture = post(Served(), TXT2IMG, {**PROMPT, "seed": 7}).json()["images"][0]
    read = post(Served(), "/sdapi/v1/png-info", {"image": f"data:image/png;base64,{picture}"})
    body = read.json()
    assert body["info"] == parameters_of(base64.b64decode(picture)) == body["items"]["parameters"]
    assert (body["parameters"]["Prompt"], body["parameters"]["Seed"]) == ("a red house", "7")
    plain = post(Served(), "/sdapi/v1/png-info", {"image": base64_of(png())})
    assert plain.json() == {"info": "", "items": {}, "parameters": {}}
    assert refused("/sdapi/v1/png-info", {"image": "aGVsbG8="}).startswith("image is not a PNG")
