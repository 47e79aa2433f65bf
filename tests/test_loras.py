"""Adapters at the ingress: named in a field or in a prompt, settled against the model's card."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import AdapterFailed, InvalidRequest
from deployments.imaging.metadata import parameters_of
from deployments.ingress.automatic1111 import wire
from deployments.ingress.automatic1111.loras import read_loras
from deployments.ingress.resolve import resolve
from deployments.requests import AdapterUse, AdapterWish, GenerationParams
from tests.bad_inputs import MULTIPART, form, part
from tests.ingress_backend import CARD, OneColour, app_over, ask, png
from tests.sdapi import TXT2IMG, Served, post, refused

LORAS = (AdapterUse("Ink", 1.0), AdapterUse("oil paint", 0.5), AdapterUse("slider", -2.0))
OFFERED: dict[str, Any] = {"adapters": LORAS, "max_adapters": 2}
ADAPTED = replace(CARD, **OFFERED)

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


def settled(*wishes: AdapterWish) -> tuple[AdapterUse, ...]:
    params = GenerationParams(prompt="a red house", adapters=wishes)
    return resolve(params, ADAPTED, request_id="req", max_megapixels=32.0).rows[0].adapters


@pytest.mark.parametrize(
    ("wishes", "uses"),
    [
        ([], ()),
        ([AdapterWish("ink")], (AdapterUse("Ink", 1.0),)),
        ([AdapterWish("OIL Paint")], (AdapterUse("oil paint", 0.5),)),
        ([AdapterWish("slider", 10)], (AdapterUse("slider", 10.0),)),
        ([AdapterWish("Ink", 0)], ()),
        (
            [AdapterWish("Ink", 0), AdapterWish("slider"), AdapterWish("oil paint")],
            (AdapterUse("oil paint", 0.5), AdapterUse("slider", -2.0)),
        ),
        (
            [AdapterWish("slider"), AdapterWish("Ink", 0.25)],
            (AdapterUse("Ink", 0.25), AdapterUse("slider", -2.0)),
        ),
    ],
)
def test_wishes_are_settled_by_the_card(
    wishes: list[AdapterWish], uses: tuple[AdapterUse, ...]
) -> None:
    found = settled(*wishes)
    assert found == uses
    assert all(type(use.scale) is float for use in found)


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ([AdapterWish("inc")], r"lora 'inc' is not offered by 'tiny' \(did you mean 'Ink'\?\)"),
        ([AdapterWish("none")], "choose one of Ink, oil paint, slider"),
        ([AdapterWish("x" * 500)], r"lora 'x+\.\.\. is not"),
        ([AdapterWish("Ink", 10.5)], "'Ink': scale must be a number from -10 to 10, got 10.5"),
        ([AdapterWish("Ink", float("nan"))], "got nan"),
        ([AdapterWish("Ink"), AdapterWish("ink", 0.5)], "lora 'Ink' is named twice"),
        ([AdapterWish(use.name) for use in LORAS], "loras: 3 adapters are named, .* at most 2 at"),
        ([AdapterWish("none")] * 9999, "loras: 9999 adapters are named, and 'tiny' takes at most"),
        ([AdapterWish("ink", 0)] * 9999, "lora 'Ink' is named twice"),
    ],
)
def test_what_cannot_be_is_refused(wishes: list[AdapterWish], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        settled(*wishes)
    assert caught.value.param == "loras"


def test_a_model_without_adapters_says_so() -> None:
    params = GenerationParams(prompt="a red house", adapters=(AdapterWish("ink"),))
    with pytest.raises(InvalidRequest, match="not offered by 'tiny'; it has none; leave it out"):
        resolve(params, CARD, request_id="req", max_megapixels=32.0)


SENT = [{"name": "ink", "scale": 0.8}, {"name": "slider"}]
USED = (AdapterUse("Ink", 0.8), AdapterUse("slider", -2.0))


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        (GENERATIONS, {"json": {"prompt": "a house", "loras": SENT}}),
        ("/v1/jobs", {"json": {"prompt": "a house", "loras": SENT}}),
        ("/hf/models/tiny", {"json": {"inputs": "a house", "parameters": {"loras": SENT}}}),
        (
            "/superlabs_diffusion/v1/txt2img",
            {
                "data": {
                    "message_json": json.dumps({"options": {"prompt": "a house", "loras": SENT}})
                }
            },
        ),
        (
            EDITS,
            {
                "content": form(
                    part("prompt", "a house"),
                    part("image", png(), filename="x.png"),
                    part("loras", json.dumps(SENT)),
                ),
                "headers": {"content-type": MULTIPART},
            },
        ),
    ],
    ids=["generation", "job", "hugging face", "superlabs", "form"],
)
def test_every_route_takes_loras(path: str, sent: dict[str, Any]) -> None:
    backend = Served(**OFFERED)
    answer = ask(app_over(backend), "POST", path, **sent)
    assert answer.status_code < 300, answer.text
    assert backend.asked[0].rows[0].adapters == USED


@pytest.mark.parametrize("loras", [None, []])
def test_none_are_none(loras: Any) -> None:
    backend = OneColour()
    sent = {"prompt": "a house", "loras": loras}
    assert ask(app_over(backend), "POST", GENERATIONS, json=sent).status_code == 200
    assert backend.asked[0].rows[0].adapters == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ink", "loras is not valid JSON"),
        ("", "loras is not valid JSON"),
        ('[],"x":1', "unknown parameter 'x'"),
        ("[]}", "loras is not valid JSON"),
        ('{"name":"ink"}', "loras must be an array"),
        ('[{"name":7}]', "loras[0].name must be a string"),
    ],
)
def test_a_form_s_loras_are_json(text: str, says: str) -> None:
    parts = (part("prompt", "a"), part("image", png(), filename="x"), part("loras", text))
    headers = {"content-type": MULTIPART}
    backend = Served(**OFFERED)
    answer = ask(app_over(backend), "POST", EDITS, content=form(*parts), headers=headers)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    assert not backend.asked


def test_capabilities_list_them() -> None:
    body = ask(app_over(Served(**OFFERED)), "GET", "/v1/capabilities").json()
    assert body["models"][0]["loras"] == [
        {"name": use.name, "default_scale": use.scale} for use in LORAS
    ]
    assert body["models"][0]["limits"]["loras"] == 2


def test_an_adapter_that_fails_is_the_services_fault_and_not_worth_another_try() -> None:
    backend = OneColour(failure=AdapterFailed("lora 'ink' cannot be used: its file is missing"))
    answer = ask(app_over(backend), "POST", GENERATIONS, json={"prompt": "a house"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "adapter_failed")
    assert answer.headers["x-should-retry"] == "false"


# AUTOMATIC1111's way


def test_a_prompts_tags_put_loras_on() -> None:
    backend = Served(**OFFERED)
    sent = {"prompt": "a house <lora:oil paint>, <lora:INK:.25>snow", "seed": 7}
    body = post(backend, TXT2IMG, sent).json()
    (row,) = backend.asked[0].rows
    assert row.prompt == "a house , snow"
    assert row.adapters == (AdapterUse("Ink", 0.25), AdapterUse("oil paint", 0.5))
    told = "a house , snow <lora:Ink:0.25> <lora:oil paint:0.5>"
    assert json.loads(body["info"])["prompt"] == told
    text = parameters_of(base64.b64decode(body["images"][0]))
    assert text is not None
    assert text.splitlines()[0] == told
    again = Served(**OFFERED)
    post(again, TXT2IMG, {**sent, "prompt": told})
    assert again.asked[0].rows[0].adapters == row.adapters, "what the file says makes it again"


def test_the_list_of_loras() -> None:
    answer = ask(app_over(Served(**OFFERED)), "GET", "/sdapi/v1/loras")
    assert [each["name"] for each in answer.json()] == ["Ink", "oil paint", "slider"]
    assert set(answer.json()[0]) == {"name", "alias", "path", "metadata"}
    assert ask(app_over(OneColour()), "GET", "/sdapi/v1/loras").json() == []
    assert post(Served(), "/sdapi/v1/refresh-loras", {}).json() is None


def test_an_unknown_lora_is_a_clear_error() -> None:
    assert "lora 'ink' is not offered by 'tiny'" in refused(TXT2IMG, {"prompt": "<lora:ink:1>"})


def test_too_many_tags_are_told_of_as_tags() -> None:
    tags = "".join(f"<lora:{use.name}:1>" for use in LORAS)
    answer = post(Served(**OFFERED), TXT2IMG, {"prompt": tags})
    assert answer.json()["detail"].startswith("tags of the prompt: 3 adapters are named, and")


def test_a_prompt_that_is_too_long_is_not_searched_for_tags(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def search(prompt: str) -> Any:
        pytest.fail("it is searched")

    monkeypatch.setattr(wire, "read_loras", search)
    said = refused(TXT2IMG, {"prompt": "<lora:ink:1>" * 3000})
    assert said == "prompt has 36000 characters; send at most 32000"


@pytest.mark.parametrize(
    ("prompt", "left", "wishes"),
    [
        ("a house", "a house", []),
        ("<lora:ink:1> a house", " a house", [AdapterWish("ink", 1.0)]),
        ("a<lora:ink>b<lora:oil:-.5>", "ab", [AdapterWish("ink"), AdapterWish("oil", -0.5)]),
        ("<lora: ink : 0.8 >", "", [AdapterWish("ink", 0.8)]),
        ("<lora:ink:0.8:0.8>", "", [AdapterWish("ink", 0.8)]),
        ("<lora:ink:te=0.8:unet=0.8>", "", [AdapterWish("ink", 0.8)]),
        ("<lyco:ink:0.8>", "", [AdapterWish("ink", 0.8)]),
        (
            "<lora:ink:1e-05><lora:oil:-2.5E+0>",
            "",
            [AdapterWish("ink", 1e-5), AdapterWish("oil", -2.5)],
        ),
        ("<hypernet:ink:1> <b> <lora:", "<hypernet:ink:1> <b> <lora:", []),
        ("<lora:a<lora:ink:1>>", "<lora:a>", [AdapterWish("ink", 1.0)]),
    ],
)
def test_tags_are_read(prompt: str, left: str, wishes: list[AdapterWish]) -> None:
    assert read_loras(prompt) == (left, tuple(wishes))


NAMES = st.text(
    st.characters(exclude_characters="<>:", categories=("L", "N", "P", "Zs")), min_size=1
)
SCALES = st.integers(-1000, 1000).map(lambda thousandths: thousandths / 100) | st.floats(-10, 10)
TEXTS = st.text().filter(lambda text: "<" not in text)


@given(st.lists(st.tuples(TEXTS, NAMES.filter(lambda name: name.strip() == name), SCALES)), TEXTS)
def test_any_tags_come_out_of_any_text(pieces: list[tuple[str, str, float]], end: str) -> None:
    prompt = "".join(f"{text}<lora:{name}:{scale}>" for text, name, scale in pieces) + end
    left, wishes = read_loras(prompt)
    assert left == "".join(text for text, _, _ in pieces) + end
    assert wishes == tuple(AdapterWish(name, scale) for _, name, scale in pieces)


@given(st.text(st.sampled_from("<>:lora 0.8-+eE=x\n")) | st.text())
def test_any_text_is_read_or_refused(prompt: str) -> None:
    try:
        left, wishes = read_loras(prompt)
    except InvalidRequest:
        return
    assert (left == prompt) == (not wishes)
    assert all(wish.name for wish in wishes)


def test_a_long_text_of_half_tags_takes_no_time() -> None:
    # Quadratic, this would take an hour.
    assert read_loras("<lora:" * 2_000_000)[1] == ()
