"""The options by all their names, sizes said in two ways, and files inside JSON."""

import base64
from typing import Any

import msgspec
import pytest

from deployments.errors import InvalidRequest
from deployments.ingress.bodies import decode_json, decode_texts
from deployments.ingress.inline import inline_file
from deployments.ingress.options import DiffusionOptions, applied, canonical
from deployments.ingress.sizes import wanted_size
from deployments.requests import AdapterWish, GenerationParams

decoder = msgspec.json.Decoder(DiffusionOptions)


def options(**sent: Any) -> DiffusionOptions:
    return canonical(decode_json(msgspec.json.encode(sent), decoder))


@pytest.mark.parametrize(
    ("sent", "name", "value"),
    [
        ({"steps": 9}, "num_inference_steps", 9),
        ({"step": 9}, "num_inference_steps", 9),
        ({"cfg_scale": 3}, "guidance_scale", 3.0),
        ({"true_cfg_scale": 3.5}, "guidance_scale", 3.5),
        ({"denoising_strength": 0.5}, "strength", 0.5),
        ({"sampler_name": "Euler a"}, "scheduler", "Euler a"),
        ({"steps": 9, "num_inference_steps": 9, "step": None}, "num_inference_steps", 9),
        ({"cfg_scale": 7, "true_cfg_scale": 7.0}, "guidance_scale", 7.0),
        ({"guidance_scale": 0, "cfg_scale": 0}, "guidance_scale", 0.0),
    ],
)
def test_an_alias_is_the_parameter(sent: dict[str, Any], name: str, value: Any) -> None:
    found = options(**sent)
    assert getattr(found, name) == value
    assert found == DiffusionOptions(**{name: value}), "nothing stays under an alias"


@pytest.mark.parametrize(
    ("sent", "param", "words"),
    [
        ({"steps": 9, "num_inference_steps": 8}, "steps", "steps 9 and num_inference_steps 8"),
        ({"steps": 9, "step": 8}, "step", "step 8 and steps 9"),
        ({"cfg_scale": 1, "guidance_scale": 0}, "cfg_scale", "cfg_scale 1.0 and guidance_scale 0"),
        ({"lora": [{"name": "x"}], "loras": []}, "lora", r'lora \[{"name":"x"}\] and loras \[\]'),
        ({"lora": [1], "image_loras": [2]}, "image_loras", r"image_loras \[2\] and lora \[1\]"),
        ({"lora": ["x" * 999], "loras": []}, "lora", r'lora \["x{78}\.\.\. and loras \[\]'),
        ({"seeds": 9}, "seeds", "did you mean 'seed'"),
    ],
)
def test_names_that_cannot_be_are_refused(sent: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        options(**sent)
    assert refused.value.param == param


LORA = [{"name": "ink", "scale": 0.5}]


@pytest.mark.parametrize(
    "sent",
    [
        {"loras": LORA},
        {"lora": LORA},
        {"image_loras": LORA, "loras": None},
        {"lora": LORA, "loras": LORA, "image_loras": None},
        {"image_loras": [{"path": "ink", "scale": 0.5}]},
        {"lora": [{"path": "ink", "name": "ink", "scale": 0.5}]},
    ],
)
def test_loras_go_by_several_names(sent: dict[str, Any]) -> None:
    params = applied(options(**sent), GenerationParams(prompt="a house"))
    assert params.adapters == (AdapterWish("ink", 0.5),)


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        ({"scale": 1}, r"loras\[1\]\.name is missing; it is required"),
        ({"name": "a", "path": "b"}, r"loras\[1\]: path 'b' and name 'a' are two values"),
    ],
)
def test_a_lora_has_one_name(lora: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        applied(options(lora=[*LORA, lora]), GenerationParams(prompt="a house"))
    assert refused.value.param == "loras"


def test_a_form_s_texts_may_go_by_aliases() -> None:
    found = canonical(decode_texts({"steps": "9", "cfg_scale": "2.5"}, DiffusionOptions))
    assert (found.num_inference_steps, found.guidance_scale) == (9, 2.5)
    found = canonical(decode_texts({"image_loras": '[{"path":"ink"}]'}, DiffusionOptions))
    assert found.loras == msgspec.Raw(b'[{"path":"ink"}]')


def test_options_change_what_they_name_and_nothing_else() -> None:
    before = GenerationParams(prompt="a house", num_inference_steps=7, guidance_end=0.9)
    after = applied(options(cfg_scale=0, seed=0, priority="low", prompt_weighting=True), before)
    assert after == GenerationParams(
        prompt="a house",
        num_inference_steps=7,
        guidance_end=0.9,
        guidance_scale=0.0,
        seed=0,
        priority="low",
        prompt_weighting=True,
    )


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ((None, None, None), (None, None)),
        (("auto", 64, 32), (64, 32)),
        (("64x32", None, None), (64, 32)),
        (("64x32", 64, 32), (64, 32)),
        ((None, 64, None), (64, None)),
    ],
)
def test_a_size_may_be_said_in_two_ways(said: Any, meant: tuple[int | None, int | None]) -> None:
    assert wanted_size(*said) == meant


@pytest.mark.parametrize(
    ("said", "param"),
    [
        (("64x32", 32, 32), "width"),
        (("64x32", None, 64), "height"),
        (("large", None, None), "size"),
        (("0x64", None, None), "size"),
    ],
)
def test_sizes_that_disagree_are_refused(said: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        wanted_size(*said)
    assert refused.value.param == param


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "DATA:;charset=utf-8;base64,"])
def test_a_file_may_come_as_text(prefix: str) -> None:
    content = bytes(range(256))
    assert inline_file(prefix + base64.b64encode(content).decode(), param="image") == content


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://example.org/a.png", "none is fetched"),
        ("file:///etc/passwd", "none is fetched"),
        ("YWJj!", "not base64"),
        ("YWJ", "not base64"),
        ("Zürich", "not base64"),
        ("data:image/png,abc", "not base64"),
    ],
)
def test_a_text_that_is_no_file_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        inline_file(text, param="mask")
    assert refused.value.param == "mask"
