"""Every default and limit is settled once, and whatever is wrong is an `InvalidRequest`."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.diffusion.samplers import SAMPLERS
from deployments.errors import InvalidRequest
from deployments.ingress.openai.edits import decode_edit
from deployments.ingress.openai.fields import decode_generation
from deployments.ingress.openai.params import to_params
from deployments.ingress.resolve import nearest_size, resolve
from deployments.requests import MAX_SEED, GenerationParams, GenerationRequest, ModelCard, Row
from tests.bad_inputs import MULTIPART, form, part
from tests.ingress_backend import CARD, png


def settled(**wishes: Any) -> GenerationRequest:
    params = GenerationParams(**{"prompt": "a red house", **wishes})
    return resolve(params, CARD, request_id="req", max_megapixels=32.0)


def refusal(**wishes: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        settled(**wishes)
    return caught.value


def test_what_was_not_said_comes_from_the_card() -> None:
    request = settled()
    (row,) = request.rows
    assert (row.id, row.model, row.negative_prompt) == ("req-0", "tiny", "")
    assert (row.width, row.height) == (64, 64)
    assert (row.num_inference_steps, row.guidance_scale) == (20, 7.5)
    assert (row.scheduler, row.strength) == ("EulerDiscreteScheduler", None)
    assert (request.image, request.mask, request.prepare) == (None, None, None)


def test_a_seed_is_drawn_when_none_was_given() -> None:
    seeds = {settled().rows[0].seed for _ in range(20)}
    assert len(seeds) == 20
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


def test_row_i_has_seed_plus_i_and_its_own_id() -> None:
    rows = settled(n=3, seed=MAX_SEED - 1).rows
    assert [row.seed for row in rows] == [MAX_SEED - 1, MAX_SEED, 0]
    assert [row.id for row in rows] == ["req-0", "req-1", "req-2"]


def test_strength_depends_on_the_mask() -> None:
    assert settled(image=png()).rows[0].strength == CARD.default_strength
    assert settled(image=png(), mask=png()).rows[0].strength == 1.0
    assert settled(image=png(), mask=png(), strength=0.3).rows[0].strength == 0.3


def test_strength_must_leave_a_step() -> None:
    assert settled(image=png(), strength=0.5, num_inference_steps=2).rows[0].strength == 0.5
    error = refusal(image=png(), strength=0.3, num_inference_steps=3)
    assert error.param == "strength"
    assert "0.3" in error.message
    assert refusal(image=png(), num_inference_steps=1).param == "num_inference_steps"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ((64, 64), (64, 64)),
        ((640, 640), (64, 64)),
        ((16, 16), (64, 64)),
        ((96, 48), (88, 48)),
        ((48, 96), (48, 88)),
        ((1000, 10), (256, 32)),
        ((7, 900), (32, 256)),
    ],
)
def test_an_edit_has_the_shape_of_its_image(
    image: tuple[int, int], expected: tuple[int, int]
) -> None:
    request = settled(image=png(*image))
    assert (request.rows[0].width, request.rows[0].height) == expected
    assert request.prepare is not None
    assert (request.prepare.width, request.prepare.height) == expected


def test_a_size_that_was_given_wins_over_the_images() -> None:
    assert settled(image=png(96, 48), width=128, height=32).rows[0].width == 128


@pytest.mark.parametrize(
    ("wanted", "nearest"),
    [((60, 70), "64x72"), ((10, 64), "32x64"), ((64, 9999), "64x256"), ((0, -8), "32x32")],
)
def test_the_nearest_valid_size_is_named(wanted: tuple[int, int], nearest: str) -> None:
    error = refusal(width=wanted[0], height=wanted[1])
    assert error.param == "size"
    assert f"{wanted[0]}x{wanted[1]}" in error.message
    assert error.message.endswith(f"the nearest valid size is {nearest}")


def test_limits_that_are_no_multiples_are_kept() -> None:
    card = replace(CARD, min_side=30, max_side=250)
    assert nearest_size(1, 9999, card) == (32, 248)


@pytest.mark.parametrize(
    ("wishes", "param", "says"),
    [
        ({"prompt": ""}, "prompt", "say what"),
        ({"prompt": "\u2003\n"}, "prompt", "say what"),
        ({"prompt": "x" * 32_001}, "prompt", "32001"),
        ({"negative_prompt": "x" * 32_001}, "negative_prompt", "32000"),
        ({"n": 0}, "n", "from 1 to 10, got 0"),
        ({"n": 11}, "n", "from 1 to 10, got 11"),
        ({"num_inference_steps": 101}, "num_inference_steps", "from 1 to 100, got 101"),
        ({"guidance_scale": -0.1}, "guidance_scale", "from 0 to 30, got -0.1"),
        ({"guidance_scale": 30.5}, "guidance_scale", "30.5"),
        ({"guidance_scale": math.nan}, "guidance_scale", "nan"),
        ({"guidance_scale": math.inf}, "guidance_scale", "inf"),
        ({"seed": -1}, "seed", "-1"),
        ({"seed": MAX_SEED + 1}, "seed", str(MAX_SEED)),
        ({"width": 64}, "size", "both or neither"),
        ({"output_compression": 101}, "output_compression", "from 0 to 100"),
        ({"strength": 0.5}, "strength", "without an image"),
        ({"resize_mode": "crop"}, "resize_mode", "without an image"),
        ({"image": png(), "mask_blur": 4.0}, "mask_blur", "without a mask"),
        ({"image": png(), "mask": png(), "mask_blur": 64.5}, "mask_blur", "0 to 64, got 64.5"),
        ({"image": png(), "mask": png(), "mask_blur": math.nan}, "mask_blur", "nan"),
        ({"mask": b"x"}, "mask", "without an image"),
        ({"guidance_rescale": -0.1}, "guidance_rescale", "from 0 to 1, got -0.1"),
        ({"guidance_rescale": math.nan}, "guidance_rescale", "nan"),
        ({"guidance_start": 1.5}, "guidance_start", "from 0 to 1, got 1.5"),
        ({"guidance_end": math.inf}, "guidance_end", "inf"),
        ({"guidance_end": 0.0}, "guidance_end", "guidance_start 0.0 is not before"),
        ({"guidance_start": 0.6, "guidance_end": 0.4}, "guidance_start", "guidance_end 0.4"),
        ({"guidance_start": 1.0}, "guidance_start", "guidance_scale 1"),
        ({"scheduler": "euler"}, "scheduler", "choose one of DDIMScheduler"),
        ({"scheduler": "UniPCScheduler"}, "scheduler", "did you mean 'UniPCMultistepScheduler'?"),
    ],
)
def test_what_cannot_be_is_refused(wishes: dict[str, Any], param: str, says: str) -> None:
    error = refusal(**wishes)
    assert error.param == param
    assert says in error.message


def test_guidance_may_be_on_for_a_part_of_the_run() -> None:
    row = settled(guidance_start=0, guidance_end=0.5, guidance_rescale=1).rows[0]
    assert (row.guidance_start, row.guidance_end, row.guidance_rescale) == (0.0, 0.5, 1.0)
    assert all(type(value) is float for value in (row.guidance_start, row.guidance_rescale))


def test_priority_is_handed_on() -> None:
    assert settled().rows[0].priority == "normal"
    assert settled(priority="low").rows[0].priority == "low"


FEW_SIZES = replace(CARD, sizes=((64, 64), (96, 64), (64, 96)))


def test_a_model_of_few_sizes_offers_no_others() -> None:
    assert nearest_size(1000, 300, FEW_SIZES) == (96, 64)
    assert named("EulerDiscreteScheduler", FEW_SIZES, width=64, height=96).height == 96
    with pytest.raises(InvalidRequest, match="choose one of 64x64, 96x64, 64x96; the nearest"):
        named("EulerDiscreteScheduler", FEW_SIZES, width=128, height=128)


ALL_SAMPLERS = replace(CARD, schedulers=tuple(SAMPLERS))


def named(scheduler: str, card: ModelCard = ALL_SAMPLERS, **wishes: Any) -> Row:
    params = GenerationParams(prompt="a red house", scheduler=scheduler, **wishes)
    return resolve(params, card, request_id="req", max_megapixels=32.0).rows[0]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("euler_a", "Euler a"),
        ("EULER ANCESTRAL", "Euler a"),
        ("euler", "Euler"),
        ("dpm++_2m_karras", "DPM++ 2M Karras"),
        ("DPM++ 2M karras", "DPM++ 2M Karras"),
        ("dpmpp_2m_sde", "DPM++ 2M SDE"),
        ("dpm_2", "DPM2"),
        ("dpm_2_ancestral", "DPM2 a"),
        ("uni_pc", "UniPC"),
        ("sa solver", "SA-Solver"),
        ("ddimscheduler", "DDIMScheduler"),
        ("euler_ancestral_discrete_scheduler", "EulerAncestralDiscreteScheduler"),
    ],
)
def test_a_sampler_may_be_written_as_elsewhere(written: str, name: str) -> None:
    assert named(written).scheduler == name


@pytest.mark.parametrize("change", [str, str.lower, str.upper, lambda name: name.replace(" ", "_")])
def test_no_two_samplers_are_taken_for_one(change: Callable[[str], str]) -> None:
    assert [named(change(name)).scheduler for name in SAMPLERS] == list(SAMPLERS)


@pytest.mark.parametrize("name", ["DPM++ SDE", "dpmpp_sde_karras", "DPMSolverSDEScheduler"])
def test_a_brownian_tree_is_refused_with_the_reason_and_the_nearest(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"Brownian tree .* the nearest is 'DPM") as caught:
        named(name)
    assert caught.value.param == "scheduler"


def test_the_list_of_samplers_can_be_read() -> None:
    with pytest.raises(
        InvalidRequest, match=r"did you mean 'UniPC'.* choose one of Euler, "
    ) as caught:
        named("UniCP")
    assert "SA-Solver; most of them also with Karras" in caught.value.message
    assert len(caught.value.message) < 450


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.01, math.nan, math.inf])
def test_strength_is_in_0_to_1(strength: float) -> None:
    assert refusal(image=png(), strength=strength).param == "strength"


INTEGERS = st.one_of(st.none(), st.integers())
FLOATS = st.one_of(st.none(), st.floats())
IMAGE = png()


@given(
    prompt=st.text(),
    n=st.integers(-2, 12),
    width=INTEGERS,
    height=st.one_of(INTEGERS, st.just(64)),
    num_inference_steps=INTEGERS,
    guidance_scale=FLOATS,
    guidance_rescale=st.floats() | st.just(0.7),
    guidance_start=st.floats() | st.floats(0, 1),
    guidance_end=st.floats() | st.floats(0, 1),
    scheduler=st.one_of(st.none(), st.text(), st.sampled_from(CARD.schedulers)),
    seed=INTEGERS,
    strength=FLOATS,
    resize_mode=st.sampled_from([None, "stretch", "crop", "pad"]),
    mask_blur=FLOATS,
    image=st.one_of(st.none(), st.binary(max_size=40), st.just(IMAGE)),
    mask=st.one_of(st.none(), st.binary(max_size=40), st.just(IMAGE)),
    output_compression=st.integers(),
)
def test_any_wish_is_settled_or_refused(**wishes: Any) -> None:
    request = attempt(lambda: settled(**wishes))
    if isinstance(request, InvalidRequest):
        assert request.param
        return
    assert len(request.rows) == wishes["n"]
    assert (request.prepare is None) == (request.image is None)
    if request.prepare is not None:
        assert 0 <= request.prepare.mask_blur <= 64
    for row in request.rows:
        assert nearest_size(row.width, row.height, CARD) == (row.width, row.height)
        assert 1 <= row.num_inference_steps <= CARD.max_steps
        assert 0 <= row.guidance_scale <= CARD.max_guidance
        assert 0 <= row.guidance_rescale <= 1
        assert 0 <= row.guidance_start < row.guidance_end <= 1
        assert 0 <= row.seed <= MAX_SEED
        assert row.scheduler in CARD.schedulers
        assert (row.strength is None) == (request.image is None)


@given(width=st.integers(1, 10_000), height=st.integers(1, 10_000))
def test_the_nearest_size_is_valid_and_stays_itself(width: int, height: int) -> None:
    nearest = nearest_size(width, height, CARD)
    assert nearest == nearest_size(*nearest, CARD)
    assert all(CARD.min_side <= side <= CARD.max_side and side % 8 == 0 for side in nearest)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        "prompt",
        "n",
        "size",
        "quality",
        "seed",
        "stream",
        "guidance_scale",
        "guidance_end",
        "priority",
        "scheduler",
        "other",
    ]
)


@given(body=st.dictionaries(FIELDS, ANY_JSON) | ANY_JSON)
@settings(max_examples=300)
def test_any_json_is_decoded_or_refused(body: Any) -> None:
    attempt(lambda: generation(json.dumps(body).encode()))


@given(body=st.binary())
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    attempt(lambda: generation(body))


@given(size=st.text() | st.from_regex(r"-?[0-9]{1,7}x[0-9]{1,7}", fullmatch=True))
def test_any_size_is_understood_or_refused(size: str) -> None:
    attempt(lambda: generation(json.dumps({"prompt": "a", "size": size}).encode()))


@given(noise=st.binary(), cut=st.integers(0, 400))
def test_any_form_is_decoded_or_refused(noise: bytes, cut: int) -> None:
    good = form(part("prompt", "a"), part("image", IMAGE), part("n", noise))
    attempt(lambda: edit(noise))
    attempt(lambda: edit(good))
    attempt(lambda: edit(good[:cut] + noise))
    attempt(lambda: edit(good[:cut] + good[cut + 1 :]))


def generation(body: bytes) -> GenerationRequest:
    params = to_params(decode_generation(body), CARD)
    return resolve(params, CARD, request_id="req", max_megapixels=32.0)


def edit(body: bytes) -> GenerationRequest:
    params = to_params(decode_edit(body, MULTIPART), CARD)
    return resolve(params, CARD, request_id="req", max_megapixels=32.0)


def attempt(run: Callable[[], GenerationRequest]) -> GenerationRequest | InvalidRequest:
    """What came of it; any other exception fails the test."""
    try:
        return run()
    except InvalidRequest as error:
        return error
