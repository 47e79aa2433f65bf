"""A service with AUTOMATIC1111's routes and familiar samplers, and what its clients send."""

import base64
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
from PIL import Image

from deployments.requests import (
    ModelCard,
)
from tests.ingress_backend import CARD, OneColour, app_over, ask

TXT2IMG, IMG2IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
PROMPT = {"prompt": "a red house"}
FAMILIAR = ("Euler", "Euler a", "DPM++ 2M", "DPM++ 2M Karras", "DPM++ 2M Beta", "UniPC", "DDIM")


class Served(OneColour):
    """The fake backend with familiar samplers, and two models."""

    def __init__(self, *, failure: Exception | None = None, **card: Any) -> None:
        super().__init__(failure=failure)
        self.card: ModelCard = replace(CARD, schedulers=(*FAMILIAR, *CARD.schedulers), **card)

    def cards(self) -> Mapping[str, ModelCard]:
        return {"tiny": self.card, "other": replace(self.card, id="other")}

    def models(self) -> list[str]:
        return ["tiny", "other", "loading"]


def post(backend: OneColour, path: str, body: Mapping[str, Any], **settings: Any) -> httpx.Response:
    return ask(app_over(backend, **settings), "POST", path, json=body)


def get(path: str) -> Any:
    answer = ask(app_over(Served()), "GET", f"/sdapi/v1/{path}")
    assert answer.status_code == 200
    return answer.json()


def refused(path: str, body: Mapping[str, Any], status: int = 422) -> str:
    backend = Served()
    answer = post(backend, path, body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "detail", "body", "errors"}
    assert not backend.asked
    return str(answer.json()["detail"])


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def opened(image: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(image)))


def webuiapi_body(**changes: Any) -> dict[str, Any]:
    """What webuiapi 0.9.17 sends for txt2img(prompt=...), to the letter."""
    return {
        "enable_hr": False,
        "hr_scale": 2,
        "hr_upscaler": "Latent",
        "hr_second_pass_steps": 0,
        "hr_resize_x": 0,
        "hr_resize_y": 0,
        "hr_checkpoint_name": None,
        "hr_sampler_name": None,
        "hr_scheduler": None,
        "hr_prompt": "",
        "hr_negative_prompt": "",
        "denoising_strength": 0.7,
        "firstphase_width": 0,
        "firstphase_height": 0,
        "prompt": "a red house",
        "styles": [],
        "seed": -1,
        "subseed": -1,
        "subseed_strength": 0.0,
        "seed_resize_from_h": 0,
        "seed_resize_from_w": 0,
        "batch_size": 1,
        "n_iter": 1,
        "steps": 20,
        "cfg_scale": 7.0,
        "width": 512,
        "height": 512,
        "restore_faces": False,
        "tiling": False,
        "do_not_save_samples": False,
        "do_not_save_grid": False,
        "negative_prompt": "",
        "eta": 1.0,
        "s_churn": 0,
        "s_tmax": 0,
        "s_tmin": 0,
        "s_noise": 1,
        "override_settings": {},
        "override_settings_restore_afterwards": True,
        "sampler_name": "Euler a",
        "scheduler": "automatic",
        "sampler_index": "Euler a",
        "script_name": None,
        "script_args": [],
        "send_images": True,
        "save_images": False,
        "alwayson_scripts": {},
        **changes,
    }
