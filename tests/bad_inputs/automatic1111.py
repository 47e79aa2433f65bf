"""Requests of AUTOMATIC1111's clients that must be refused, in its own shape."""

import json
from typing import Any

from tests.bad_inputs.case import BASE64, BOMB, DEEP, GOOD, JSON, LONG, MULTIPART, BadInput, whole

TXT2IMG, IMG2IMG, PNG_INFO = "/sdapi/v1/txt2img", "/sdapi/v1/img2img", "/sdapi/v1/png-info"
REQUEST, PICTURE_ERROR = "InvalidRequest", "InvalidImage"


def sent(
    name: str, path: str, content: bytes, says: str, *, code: str = REQUEST, **more: Any
) -> BadInput:
    """A body as it stands."""
    refused = {"status": 422, "shape": "automatic1111", **more}
    return whole(name, path, content, code, says, **refused)


def text(
    name: str, says: str, *, status: int = 422, code: str = REQUEST, **fields: Any
) -> BadInput:
    """A txt2img whose JSON is well formed but for `fields`."""
    content = json.dumps({"prompt": "a red house", **fields}).encode()
    return sent(name, TXT2IMG, content, says, status=status, code=code)


def image(name: str, says: str, *, code: str = REQUEST, **fields: Any) -> BadInput:
    """An img2img whose JSON is well formed but for `fields`."""
    body = {"prompt": "a red house", "init_images": [BASE64], **fields}
    return sent(name, IMG2IMG, json.dumps(body).encode(), says, code=code)


TEXTS = [
    text("prompt as number", "a string", prompt=7),
    text("prompt too long", "32000", prompt=LONG),
    text("negative prompt too long", "32000", negative_prompt=LONG),
    text("an unknown lora", "'ink' is not offered", prompt="a house <lora:ink:0.8>"),
    text("a lora of no number", "'strong' where a number", prompt="<lora:ink:strong>"),
    text("a lora of two scales", "one for all", prompt="<lora:ink:0.8:0.4>"),
    text("a lora of no name", "names nothing", prompt="a house <lora::0.8>"),
    text("seed as text", "an integer", seed="7"),
    text("seed of -2", "-2", seed=-2),
    text("seed of 2**63", "seed", seed=2**63),
    text("steps as text", "an integer", steps="20"),
    text("steps zero", "from 1", steps=0),
    text("steps huge", "1000000", steps=10**6),
    text("cfg_scale as text", "a number", cfg_scale="7"),
    text("cfg_scale negative", "cfg_scale", cfg_scale=-1),
    text("cfg_scale huge", "cfg_scale", cfg_scale=1e30),
    text("width as text", "an integer", width="512"),
    text("width odd", "nearest valid size", width=513, height=513),
    text("width zero", "nearest valid size", width=0, height=0),
    text("width huge", "nearest valid size", width=10**9, height=10**9),
    text("width negative", "nearest valid size", width=-512, height=512),
    text("batch_size zero", "batch_size", batch_size=0),
    text("batch_size negative", "batch_size", batch_size=-1),
    text("batch_size huge", "batch_size must be", batch_size=10**6),
    text("n_iter zero", "n_iter", n_iter=0),
    text("both huge", "batch_size must be", batch_size=10**9, n_iter=10**9),
    text("sampler unknown", "sampler_name", status=404, sampler_name="No Such Sampler"),
    text("sampler as number", "a string", sampler_name=1),
    text("scheduler unknown", "choose one of", status=404, scheduler="No Such Spacing"),
    text("override_settings as list", "an object", override_settings=[]),
    text("model as number", "must be a string", override_settings={"sd_model_checkpoint": 7}),
    text(
        "model unknown",
        "choose one of",
        status=404,
        code="UnknownModel",
        override_settings={"sd_model_checkpoint": "dreamshaper"},
    ),
    text("high resolution", "enable_hr", enable_hr=True),
    text("faces", "restore_faces", restore_faces=True),
    text("tiling", "tiling", tiling=True),
    text("variations of a seed", "subseed_strength", subseed_strength=0.5),
    text("a script", "script_name", script_name="x/y/z plot"),
    text("scripts that are always on", "alwayson_scripts", alwayson_scripts={"controlnet": {}}),
    text("styles as text", "an array", styles="watercolour"),
    text("send_images as text", "true or false", send_images="yes"),
]

IMAGES = [
    image("no picture", "init_images", init_images=[]),
    image("null for pictures", "init_images", init_images=None),
    image("two pictures", "exactly 1", init_images=[BASE64] * 2),
    image("a picture as text", "an array", init_images=BASE64),
    image("a number for a picture", "init_images", init_images=[7]),
    image("bad base64", "not base64", init_images=["a red house"]),
    image("an address", "none is fetched", init_images=["https://a.b/c.png"]),
    image("no picture in it", "PNG", init_images=["aGVsbG8="], code=PICTURE_ERROR),
    image("a bomb", "20000", init_images=[BOMB], code=PICTURE_ERROR),
    image("an empty picture", "init_images", init_images=[""], code=PICTURE_ERROR),
    image("mask of words", "mask", mask="a red house"),
    image("mask is a bomb", "mask", mask=BOMB, code=PICTURE_ERROR),
    image("denoising zero", "denoising_strength", denoising_strength=0),
    image("denoising above 1", "denoising_strength", denoising_strength=1.5),
    image("denoising as text", "a number", denoising_strength="0.5"),
    image("resized by latents", "resize_mode", resize_mode=3),
    image("a resize mode below 0", "send 0", resize_mode=-1),
    image("a blur below 0", "from 0 to 64", mask=BASE64, mask_blur=-1),
    image("a blur of words", "an integer", mask=BASE64, mask_blur="soft"),
    image("a resize mode of words", "an integer", resize_mode="crop"),
]

OTHERS = [
    sent("no body", TXT2IMG, b"", "empty"),
    sent("an array", TXT2IMG, b"[]", "JSON object"),
    sent("NaN", TXT2IMG, b'{"cfg_scale": NaN}', "NaN"),
    sent("bad UTF-8", TXT2IMG, b'{"prompt": "\xff"}', "not UTF-8"),
    sent("deep prompt", TXT2IMG, b'{"prompt": ' + b"[" * DEEP + b"]" * DEEP + b"}", "a string"),
    sent(
        "deep settings",
        TXT2IMG,
        b'{"override_settings": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
        "nested too deeply",
    ),
    sent(
        "short and deep settings",
        TXT2IMG,
        b'{"override_settings": ' + b'{"a":' * 15_000 + b"1" + b"}" * 15_000 + b"}",
        "nested too deeply",
    ),
    sent("a form", TXT2IMG, GOOD, JSON, content_type=MULTIPART),
    sent("no type", IMG2IMG, b"{}", JSON, content_type=None),
    sent("png-info of nothing", PNG_INFO, b"{}", "image is missing"),
    sent("png-info of words", PNG_INFO, b'{"image": "a red house"}', "not base64"),
    sent("png-info of null", PNG_INFO, b'{"image": null}', "a string"),
    sent("png-info of text", PNG_INFO, b'{"image": "aGVsbG8="}', "PNG", code=PICTURE_ERROR),
    sent(
        "png-info of a bomb",
        PNG_INFO,
        json.dumps({"image": BOMB}).encode(),
        "20000",
        code=PICTURE_ERROR,
    ),
    sent("options as text", "/sdapi/v1/options", b'"a"', "JSON object"),
    sent(
        "another model for all",
        "/sdapi/v1/options",
        b'{"sd_model_checkpoint": "dreamshaper"}',
        "choose one of",
        status=404,
        code="UnknownModel",
    ),
]
