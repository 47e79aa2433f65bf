"""webuiapi: URL SCENARIO SETTINGS, where SETTINGS is JSON with `side` and files' paths."""

import base64
import io
import json
import sys
from typing import Any

import webuiapi
from PIL import Image

PROMPT = "a red house on green hills at day"


def main(url: str, scenario: str, settings: dict[str, Any]) -> dict[str, Any]:
    api = webuiapi.WebUIApi(baseurl=f"{url}/sdapi/v1", sampler="Euler", steps=4)
    side = settings["side"]
    asked = {"prompt": PROMPT, "seed": 7, "width": side, "height": side}
    if scenario == "lists":
        return lists(api)
    if scenario == "txt2img":
        return told(api.txt2img(**asked, negative_prompt="fog", batch_size=2, n_iter=2))
    # "img2img": white is painted anew
    return told(
        api.img2img(
            **asked,
            images=[Image.open(settings["image"])],
            mask_image=Image.open(settings["mask"]).convert("L"),
            mask_blur=0,
            inpainting_fill=1,
            denoising_strength=0.75,
        )
    )


def lists(api: Any) -> dict[str, Any]:
    api.util_wait_for_ready(check_interval=0.1)
    options = api.get_options()
    api.set_options(options)
    api.refresh_checkpoints()
    return {
        "current_model": api.util_get_current_model(),
        "models": api.util_get_model_names(),
        "samplers": api.util_get_sampler_names(),
        "schedulers": api.util_get_scheduler_names(),
        "empty": [
            api.get_sd_vae(),
            api.get_loras(),
            api.get_upscalers(),
            api.get_latent_upscale_modes(),
        ],
        "progress": api.get_progress(),
        "interrupt": api.interrupt(),
        "skip": api.skip(),
    }


def told(result: Any) -> dict[str, Any]:
    return {
        "pictures": [coded(image) for image in result.images],
        "sizes": [image.size for image in result.images],
        "info": result.info,
        "parameters": result.parameters,
        "chunk": result.images[0].info.get("parameters"),
    }


def coded(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "png")
    return base64.b64encode(out.getvalue()).decode()


print(json.dumps(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))))
