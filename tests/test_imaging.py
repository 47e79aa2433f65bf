"""The imaging room as its callers use it: `prepare`, its settings and its Serve deployment."""

import asyncio
import os
import pickle
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deployments.errors import InvalidImage
from deployments.imaging.deployment import Imaging
from deployments.imaging.kernels import composite, pack
from deployments.imaging.prepare import prepare
from deployments.imaging.settings import ImagingSettings
from deployments.requests import MaskPolarity, PreparedImage, PrepareSpec, ResizeMode

ROOT = Path(__file__).parents[1]
SETTINGS = ImagingSettings()


def spec(width: int = 64, height: int = 32, polarity: MaskPolarity = "transparent") -> PrepareSpec:
    return PrepareSpec(width=width, height=height, latent_factor=8, mask_polarity=polarity)


def saved(image: Image.Image, name: str = "png", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def photo(width: int = 128, height: int = 64, seed: int = 5) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def alpha_mask(painted: NDArray[np.bool_]) -> bytes:
    """As OpenAI's clients send it: transparent where to paint."""
    rgba = np.full((*painted.shape, 4), 200, np.uint8)
    rgba[..., 3] = np.where(painted, 0, 255)
    return saved(Image.fromarray(rgba))


def grey_mask(painted: NDArray[np.bool_]) -> bytes:
    """As AUTOMATIC1111's clients send it: white where to paint."""
    return saved(Image.fromarray(np.where(painted, 255, 0).astype(np.uint8)))


def box(height: int, width: int, rows: slice, columns: slice) -> NDArray[np.bool_]:
    painted = np.zeros((height, width), np.bool_)
    painted[rows, columns] = True
    return painted


def refusal(image: bytes, mask: bytes | None, wanted: PrepareSpec) -> InvalidImage:
    with pytest.raises(InvalidImage) as refused:
        prepare(image, mask, wanted, SETTINGS)
    return refused.value


# 1. The image


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
@pytest.mark.parametrize(
    ("size", "filter_"),
    [
        ((128, 64), Image.Resampling.BOX),
        ((64, 32), Image.Resampling.BOX),
        ((100, 50), Image.Resampling.BICUBIC),
        ((20, 11), Image.Resampling.BICUBIC),
    ],
)
def test_image_is_what_pillow_makes_of_it(
    name: str, size: tuple[int, int], filter_: Image.Resampling
) -> None:
    data = saved(photo(*size), name, quality=90)
    prepared = prepare(data, None, spec(), SETTINGS)
    with Image.open(BytesIO(data)) as image:
        pillow = np.asarray(image.convert("RGB").resize((64, 32), filter_), np.float32)
    assert prepared.pixels.shape == (3, 32, 64)
    assert prepared.pixels.dtype == np.float32
    assert prepared.pixels.flags.c_contiguous
    assert prepared.mask is None
    assert prepared.latent_mask is None
    apart = (prepared.pixels + 1) * 127.5 - pillow.transpose(2, 0, 1)
    # Ours keeps the fraction; the mean of 2 x 2 is not rounded half-way either, as Pillow's is.
    assert np.abs(apart).max() <= (1 if size == (128, 64) else 0.5) + 1e-3


def test_alpha_is_laid_on_white() -> None:
    red = Image.new("RGBA", (64, 32), (255, 0, 0, 0))
    red.paste((255, 0, 0, 255), (0, 0, 32, 32))
    packed = pack(prepare(saved(red), None, spec(), SETTINGS).pixels)
    assert (packed[:, :32] == [255, 0, 0]).all()
    assert (packed[:, 32:] == 255).all()


def test_a_prepared_image_travels_pickled() -> None:
    painted = box(64, 128, slice(0, 64), slice(0, 40))
    prepared = prepare(saved(photo()), alpha_mask(painted), spec(), SETTINGS)
    again: PreparedImage = pickle.loads(pickle.dumps(prepared))
    np.testing.assert_array_equal(again.pixels, prepared.pixels)


# 2. The mask


@pytest.mark.parametrize(("polarity", "make"), [("transparent", alpha_mask), ("white", grey_mask)])
def test_mask_and_latent_mask(polarity: MaskPolarity, make: Any) -> None:
    # Twice the spec's size: columns 32..49 become 16..24.5, half of the last pixel.
    painted = box(64, 128, slice(16, 32), slice(32, 49))
    prepared = prepare(saved(photo()), make(painted), spec(polarity=polarity), SETTINGS)
    assert prepared.mask is not None
    assert prepared.latent_mask is not None
    expected = np.zeros((32, 64))
    expected[8:16, 16:24] = 1
    expected[8:16, 24] = 0.5
    np.testing.assert_allclose(prepared.mask, expected, atol=0.003)
    cells = np.zeros((4, 8))
    cells[1, 2:4] = 1
    np.testing.assert_array_equal(prepared.latent_mask, cells)
    for array in (prepared.mask, prepared.latent_mask):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
    assert prepared.mask.min() >= 0
    assert prepared.mask.max() <= 1


@pytest.mark.parametrize(("alpha", "paints"), [(0, True), (127, True), (128, False), (255, False)])
def test_transparent_paints_below_half_alpha(alpha: int, paints: bool) -> None:
    mask = Image.new("RGBA", (128, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, alpha), (0, 0, 64, 64))
    if paints:
        soft = prepare(saved(photo()), saved(mask), spec(), SETTINGS).mask
        assert soft is not None
        assert soft.mean() == 0.5
    else:
        assert refusal(saved(photo()), saved(mask), spec()).param == "mask"


@pytest.mark.parametrize(
    ("left", "right", "painted"),
    [
        ((128, 128, 128, 255), (127, 127, 127, 255), "left"),  # one alpha: luma decides
        ((255, 255, 255, 7), (0, 0, 0, 7), "left"),
        ((0, 0, 0, 129), (255, 255, 255, 128), "left"),  # two alphas: they decide
        ((255, 255, 255, 0), (0, 0, 0, 255), "right"),
    ],
)
def test_white_takes_luma_or_varying_alpha(
    left: tuple[int, ...], right: tuple[int, ...], painted: str
) -> None:
    mask = Image.new("RGBA", (128, 64), right)
    mask.paste(left, (0, 0, 64, 64))
    soft = prepare(saved(photo()), saved(mask), spec(polarity="white"), SETTINGS).mask
    assert soft is not None
    assert (soft[:, :32] == (painted == "left")).all()
    assert (soft[:, 32:] == (painted == "right")).all()


def test_a_mask_of_another_size_is_refused() -> None:
    mask = alpha_mask(box(64, 127, slice(0, 9), slice(0, 9)))
    refused = refusal(saved(photo()), mask, spec())
    assert refused.param == "mask"
    assert "mask is 127x64 px and image is 128x64 px" in refused.message


def test_sizes_are_compared_after_the_exif_turn() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(photo(64, 128), "jpeg", exif=exif)
    painted = box(64, 128, slice(0, 64), slice(0, 64))
    assert prepare(turned, alpha_mask(painted), spec(), SETTINGS).mask is not None
    assert refusal(turned, alpha_mask(painted.T), spec()).param == "mask"


def test_a_mask_without_alpha_is_refused_with_the_cure() -> None:
    refused = refusal(saved(photo()), grey_mask(box(64, 128, slice(9), slice(9))), spec())
    assert refused.param == "mask"
    assert "no alpha channel" in refused.message
    assert "make the parts to paint transparent" in refused.message


@pytest.mark.parametrize(("polarity", "make"), [("transparent", alpha_mask), ("white", grey_mask)])
@pytest.mark.parametrize("painted", [0, 1], ids=["nothing", "one pixel of 6000 px"])
def test_a_mask_that_leaves_nothing_to_paint_is_refused(
    polarity: MaskPolarity, make: Any, painted: int
) -> None:
    mask = make(box(8, 6000, slice(painted), slice(painted)))
    refused = refusal(saved(photo(6000, 8)), mask, spec(8, 8, polarity))
    assert refused.param == "mask"
    assert "nothing to paint at 8x8 px" in refused.message


def test_a_bad_file_is_named_by_its_field() -> None:
    good, mask = saved(photo()), alpha_mask(box(64, 128, slice(9), slice(9)))
    assert refusal(b"no image", None, spec()).param == "image"
    assert refusal(good[:-60], mask, spec()).param == "image"
    assert refusal(good, mask[:-60], spec()).param == "mask"
    small = ImagingSettings(max_megapixels=0.005)
    with pytest.raises(InvalidImage, match=r"limit is 0\.005") as refused:
        prepare(good, mask, spec(), small)
    assert refused.value.code == "image_too_large"


def test_the_unmasked_region_survives_an_edit() -> None:
    image = photo(64, 32)
    painted = box(32, 64, slice(8, 24), slice(16, 40))
    prepared = prepare(saved(image), alpha_mask(painted), spec(), SETTINGS)
    assert prepared.mask is not None
    result = np.full((32, 64, 3), 99, np.uint8)
    edited = composite(result, prepared.pixels, prepared.mask)
    np.testing.assert_array_equal(edited[~painted], np.asarray(image)[~painted])
    assert (edited[painted] == 99).all()


@pytest.mark.parametrize("mode", ["crop", "pad"])
def test_image_and_mask_are_cropped_and_padded_alike(mode: ResizeMode) -> None:
    painted = box(64, 128, slice(16, 40), slice(50, 90))
    image = Image.fromarray(np.where(painted, 255, 0).astype(np.uint8)).convert("RGB")
    wanted = PrepareSpec(
        width=64, height=64, latent_factor=8, mask_polarity="transparent", resize_mode=mode
    )
    prepared = prepare(saved(image), alpha_mask(painted), wanted, SETTINGS)
    assert prepared.mask is not None
    # The picture is white where its mask paints, and stays so.
    np.testing.assert_allclose(prepared.pixels[0], prepared.mask * 2 - 1, atol=1e-5)
    rows, columns = np.nonzero(prepared.mask)
    found = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
    assert found == {"crop": (16, 40, 18, 58), "pad": (24, 36, 25, 45)}[mode]


def test_a_blurred_mask_is_soft_on_both_sides_of_its_edge() -> None:
    painted = box(64, 128, slice(None), slice(64, None))
    wanted = PrepareSpec(
        width=128, height=64, latent_factor=8, mask_polarity="white", mask_blur=4.0
    )
    prepared = prepare(saved(photo()), grey_mask(painted), wanted, SETTINGS)
    assert prepared.mask is not None
    assert prepared.latent_mask is not None
    edge = prepared.mask[32, 48:80]
    assert (np.diff(edge) >= 0).all()
    assert 0.1 < edge[16 - 4] < 0.25
    assert 0.75 < edge[16 + 3] < 0.9
    assert edge[0] == 0
    assert edge[-1] == pytest.approx(1)
    assert prepared.latent_mask[4].tolist() == [0] * 6 + [1] * 10  # wherever it paints at all


def test_a_blur_that_leaves_nothing_to_paint_is_refused() -> None:
    dot = grey_mask(box(512, 512, slice(0, 1), slice(0, 1)))
    wanted = PrepareSpec(
        width=512, height=512, latent_factor=8, mask_polarity="white", mask_blur=64.0
    )
    refused = refusal(saved(photo(512, 512)), dot, wanted)
    assert (refused.param, "lower mask_blur" in refused.message) == ("mask", True)


@pytest.mark.parametrize(
    ("name", "pillow"),
    [
        ("area", Image.Resampling.BOX),
        ("bilinear", Image.Resampling.BILINEAR),
        ("bicubic", Image.Resampling.BICUBIC),
        ("lanczos", Image.Resampling.LANCZOS),
    ],
)
def test_the_filter_of_the_settings_is_the_one_used(name: Any, pillow: Image.Resampling) -> None:
    prepared = prepare(saved(photo(150, 70)), None, spec(), ImagingSettings(filter=name))
    resized = np.asarray(photo(150, 70).resize((64, 32), pillow), np.float32).transpose(2, 0, 1)
    assert np.abs((prepared.pixels + 1) * 127.5 - resized).max() <= 0.5 + 1e-3


# 3. Settings and imports


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_settings_refuse_what_cannot_work(value: float) -> None:
    with pytest.raises(ValueError, match=f"max_megapixels is {value:g}: it must be"):
        ImagingSettings(max_megapixels=value)


def test_settings_refuse_unknown_keys() -> None:
    with pytest.raises(msgspec.ValidationError, match="megapixels"):
        msgspec.convert({"megapixels": 3}, ImagingSettings)


def test_prepare_loads_neither_ray_nor_torch() -> None:
    script = (
        "import sys, deployments.imaging.prepare\n"
        "print(sorted({'ray', 'torch', 'starlette', 'diffusers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# 4. The deployment


def test_preparing_leaves_the_event_loop_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    gate, entered = threading.Event(), threading.Semaphore(0)

    def gated(*arguments: Any) -> PreparedImage:
        entered.release()
        assert gate.wait(60), "the event loop never ran while a picture was prepared"
        return prepare(*arguments)

    monkeypatch.setattr("deployments.imaging.deployment.prepare", gated)

    async def three_at_once() -> list[PreparedImage]:
        imaging = Imaging(SETTINGS)
        wishes = [
            asyncio.create_task(imaging.prepare(saved(photo(seed=seed)), None, spec()))
            for seed in range(3)
        ]
        for _ in wishes:  # all three threads are in, and this loop still runs
            assert await asyncio.to_thread(entered.acquire, True, 60)
        gate.set()
        return list(await asyncio.gather(*wishes))

    for seed, prepared in enumerate(asyncio.run(three_at_once())):
        alone = prepare(saved(photo(seed=seed)), None, spec(), SETTINGS)
        np.testing.assert_array_equal(prepared.pixels, alone.pixels)


ON_RAY = """
import io
import sys
import ray
from PIL import Image
from ray import serve
from deployments.errors import InvalidImage, Requeue
from deployments.imaging.deployment import Imaging
from deployments.imaging.settings import ImagingSettings
from deployments.requests import PrepareSpec

ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80_000_000, log_to_driver=False)
serve.start(proxy_location="Disabled")
deployment = serve.deployment(ray_actor_options={"num_cpus": 1})(Imaging)
handle = serve.run(deployment.bind(ImagingSettings(max_waiting=1)), route_prefix=None)
spec = PrepareSpec(width=64, height=32, latent_factor=8, mask_polarity="transparent")
prepared = handle.prepare.remote(sys.stdin.buffer.read(), None, spec).result()
print(prepared.pixels.shape, prepared.pixels.dtype)
try:
    handle.prepare.remote(b"no image", None, spec).result()
except InvalidImage as refused:
    print(refused.param, refused.code)

picture = io.BytesIO()
Image.new("RGB", (6000, 5000)).save(picture, "png")
calls = [handle.prepare.remote(picture.getvalue(), None, spec) for _ in range(8)]
outcomes = set()
for call in calls:
    try:
        outcomes.add(type(call.result()).__name__)
    except Requeue as full:
        assert full.pending_s > 0
        outcomes.add("Requeue")
print(sorted(outcomes))
serve.shutdown()
ray.shutdown()
"""


def test_the_deployment_on_ray(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", ON_RAY],
        input=saved(photo()),
        env=environment,
        cwd=tmp_path,
        capture_output=True,
    )
    said = done.stdout.decode().splitlines()[:3]  # then come Ray's own lines on shutting down
    sorts = ["(3, 32, 64) float32", "image unsupported_image_format"]
    assert said == [*sorts, "['PreparedImage', 'Requeue']"], done.stderr.decode()
