"""How a picture was made, in its file: other readers find it there, and no pixel has changed."""

import asyncio
import base64
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile, PngInfo
from sd_parsers import ParserManager
from sd_parsers.data import Generators

from deployments.imaging.codecs import decode, encode
from deployments.imaging.metadata import parameters_of, with_parameters
from deployments.ingress.metadata import described, infotext, parsed
from deployments.ingress.resolve import resolve
from deployments.ingress.routes import build_app
from deployments.ingress.settings import IngressSettings
from deployments.requests import GenerationParams, GenerationRequest, OutputFormat, Row
from tests.ingress_backend import CARD, OneColour, ask

FORMATS: tuple[OutputFormat, ...] = ("png", "jpeg", "webp")
TEXTS = ("a red house", "grüne Wiese\nSteps: 3", "红色的房子 🏠", "x" * 9)


def file(output_format: OutputFormat, quality: int = 80) -> bytes:
    y, x = np.mgrid[0:33, 0:47]
    pixels = np.stack([x * 5, y * 7, 255 - x - y], axis=-1).astype(np.uint8)
    return encode(pixels, output_format, quality)


def read_by_pillow(content: bytes) -> str:
    with Image.open(BytesIO(content)) as image:
        if isinstance(image, PngImageFile):
            return str(image.text["parameters"])
        comment = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
        assert comment.startswith(b"UNICODE\0")
        return str(comment[8:].decode("utf-16-be"))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("quality", [0, 80, 100])
def test_pillow_finds_the_text_and_the_same_pixels(
    output_format: OutputFormat, quality: int, text: str
) -> None:
    content = file(output_format, quality)
    told = with_parameters(content, output_format, text)
    assert read_by_pillow(told) == text
    assert parameters_of(told) == text
    assert parameters_of(content) is None
    before, after = (decode(each, param="image", max_megapixels=1) for each in (content, told))
    assert np.array_equal(before, after)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", FORMATS)
def test_what_pillow_wrote_is_found(name: OutputFormat, text: str) -> None:
    buffer, picture = BytesIO(), Image.new("RGB", (8, 8))
    if name == "png":
        chunks = PngInfo()
        chunks.add_text("Software", "other")
        chunks.add_text("parameters", text)
        picture.save(buffer, name, pnginfo=chunks)
    else:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 1
        comment = b"UNICODE\0" + text.encode("utf-16-be")
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
        picture.save(buffer, name, exif=exif)
    assert parameters_of(buffer.getvalue()) == text


@pytest.mark.parametrize("output_format", FORMATS)
def test_sd_parsers_reads_it(output_format: OutputFormat, tmp_path: Path) -> None:
    asked = row(prompt="红色的房子, snow", negative_prompt="fog", guidance_scale=7)
    text = infotext(renamed(asked, scheduler="DPM++ 2M Karras"))
    path = tmp_path / "picture"
    path.write_bytes(with_parameters(file(output_format), output_format, text))
    found = ParserManager().parse(path)
    assert found is not None
    assert found.generator == Generators.AUTOMATIC1111
    (sampler,) = found.samplers
    assert (sampler.name, sampler.model and sampler.model.name) == ("DPM++ 2M", "tiny")
    assert [each.value for each in sampler.prompts] == ["红色的房子, snow"]
    assert [each.value for each in sampler.negative_prompts] == ["fog"]
    assert sampler.parameters["scheduler"] == "Karras"
    assert (sampler.parameters["seed"], sampler.parameters["cfg_scale"]) == ("42", "7.0")


def test_a_jpeg_without_room_for_the_text_stays_as_it_is() -> None:
    content = file("jpeg")
    assert with_parameters(content, "jpeg", "x" * 40_000) == content
    fits = "x" * 32_700
    assert read_by_pillow(with_parameters(content, "jpeg", fits)) == fits


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_damaged_file_says_nothing_or_less(output_format: OutputFormat) -> None:
    told = with_parameters(file(output_format), output_format, "a red house")
    for end in range(len(told)):
        text = parameters_of(told[:end])
        assert text is None or "a red house".startswith(text.rstrip("\N{REPLACEMENT CHARACTER}"))


def settled(**wanted: object) -> GenerationRequest:
    params = GenerationParams(
        **{"prompt": "a red house, snow", "seed": 42, "n": 2} | wanted  # type: ignore[arg-type]
    )
    return resolve(params, CARD, request_id="r", max_megapixels=1)


def row(**wanted: object) -> Row:
    return settled(**wanted).rows[0]


def test_the_text_is_the_one_that_tools_read() -> None:
    assert infotext(row(negative_prompt="fog", guidance_scale=7)) == (
        "a red house, snow\n"
        "Negative prompt: fog\n"
        "Steps: 20, Sampler: EulerDiscreteScheduler, CFG scale: 7.0, Seed: 42, Size: 64x64, "
        "Model: tiny"
    )


def test_the_text_says_all_that_the_picture_depends_on() -> None:
    full = row(guidance_rescale=0.7, guidance_end=0.5)
    settings = parsed(infotext(full))
    assert settings["CFG rescale"] == "0.7"
    assert (settings["CFG from"], settings["CFG to"]) == ("0.0", "0.5")
    assert "Negative prompt" not in infotext(full)


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        ("DPM++ 2M Karras", {"Sampler": "DPM++ 2M", "Schedule type": "Karras"}),
        ("Euler a", {"Sampler": "Euler a"}),
    ],
)
def test_a_samplers_spacing_is_a_setting_of_its_own(scheduler: str, said: dict[str, str]) -> None:
    named = infotext(renamed(row(), scheduler=scheduler))
    settings = parsed(named)
    assert {name: settings.get(name) for name in said} == said
    assert ("Schedule type" in settings) == ("Schedule type" in said)


def test_values_that_would_break_the_line_are_quoted_and_come_back() -> None:
    model = 'my, "own": model\n2'
    text = infotext(renamed(row(), model=model))
    assert len(text.split("\n")) == 2
    assert parsed(text)["Model"] == model


def test_a_text_of_another_kind_is_all_prompt() -> None:
    assert parsed("two: words\nand, more") == {
        "Prompt": "two: words\nand, more",
        "Negative prompt": "",
    }


def renamed(original: Row, **names: str) -> Row:
    return replace(original, **names)  # type: ignore[arg-type]


@pytest.mark.parametrize(("setting", "told"), [("automatic1111", False), ("all", True)])
@pytest.mark.parametrize("output_format", FORMATS)
def test_all_routes_tell_only_when_asked_to(
    setting: Literal["automatic1111", "all"], told: bool, output_format: OutputFormat
) -> None:
    app = build_app(OneColour(), IngressSettings(picture_metadata=setting))
    sent = {"prompt": "a red house", "seed": 7, "n": 2, "output_format": output_format}
    answer = ask(app, "POST", "/v1/images/generations", json=sent).json()
    texts = [parameters_of(base64.b64decode(each["b64_json"])) for each in answer["data"]]
    if told:
        assert [parsed(text or "")["Seed"] for text in texts] == ["7", "8"]
    else:
        assert texts == [None, None]


def test_each_result_is_told_of_its_own_row() -> None:
    request = settled()
    made = asyncio.run(OneColour().generate(request))
    told = described(request, made[::-1])
    assert ["Seed: 43" in (parameters_of(each.content) or "") for each in told] == [True, False]
