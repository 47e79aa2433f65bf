"""Real files of every kind, made here: each decodes to the right picture or is refused."""

import random
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from deployments.errors import InvalidImage
from deployments.imaging.codecs import decode, encode, read_header
from deployments.requests import OutputFormat

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

FORMATS: tuple[OutputFormat, ...] = ("png", "jpeg", "webp")
LIMIT = 32.0


def picture(width: int = 48, height: int = 32) -> Image.Image:
    """Smooth, and different in every corner, so that JPEG is close and a turn is seen."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1)
    return Image.fromarray(np.stack([red, green, 128 + 0 * x], axis=-1).astype(np.uint8))


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def opened(data: bytes) -> NDArray[np.int64]:
    return decode(data, param="image", max_megapixels=LIMIT).astype(np.int64)


def refusal(data: bytes, param: str = "image") -> InvalidImage:
    with pytest.raises(InvalidImage) as refused:
        decode(data, param=param, max_megapixels=LIMIT)
    assert refused.value.param == param
    assert refused.value.message.startswith(f"{param} ")
    return refused.value


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(
    width: int, height: int, depth: int, colour_type: int, rows: list[bytes], *extra: bytes
) -> bytes:
    """A PNG that says what we want it to say, for the kinds that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    body = chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", pixels)
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """An ICC profile in which red is sRGB's green, and green its red."""
    profile = srgb_profile().replace(b"rXYZ", b"????", 1)
    return profile.replace(b"gXYZ", b"rXYZ", 1).replace(b"????", b"gXYZ", 1)


def grey_profile() -> bytes:
    return srgb_profile().replace(b"RGB ", b"GRAY", 1).replace(b"rTRC", b"kTRC", 1)


# 1. The header


@pytest.mark.parametrize("name", FORMATS)
def test_header_says_format_and_size(name: OutputFormat) -> None:
    header = read_header(saved(picture(), name))
    assert (header.format, header.width, header.height) == (name, 48, 32)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_header_and_pixels(name: OutputFormat, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(picture(), name, exif=exif, quality=95)
    header = read_header(data)
    upright = np.asarray(picture()).astype(int)
    flipped = {2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1]}
    turned = {5: upright, 6: upright[::-1], 7: upright[::-1, ::-1], 8: upright[:, ::-1]}
    expected = flipped.get(orientation, upright)
    if orientation >= 5:
        expected = turned[orientation].transpose(1, 0, 2)
    assert (header.height, header.width) == expected.shape[:2]
    assert np.abs(opened(data) - expected).max() <= 12


def test_an_orientation_that_exif_does_not_know_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    assert opened(saved(picture(), "png", exif=exif)).shape == (32, 48, 3)


def lossy_webp_bomb() -> bytes:
    frame = b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383) + bytes(40)
    return b"RIFF" + struct.pack("<I", 66) + b"WEBPVP8 " + struct.pack("<I", 50) + frame


def lossless_webp_bomb() -> bytes:
    frame = b"\x2f" + struct.pack("<I", 16383 | 16383 << 14) + bytes(40)
    return b"RIFF" + struct.pack("<I", 57) + b"WEBPVP8L" + struct.pack("<I", 45) + frame


def extended_webp_bomb() -> bytes:
    canvas = b"\x10\0\0\0" + (19_999).to_bytes(3, "little") * 2
    data = saved(picture(), "webp", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
    return data[:20] + canvas + data[30:]


def jpeg_bomb() -> bytes:
    data = saved(picture(), "jpeg")
    size = data.index(b"\xff\xc0") + 5
    return data[:size] + struct.pack(">HH", 65535, 65535) + data[size + 4 :]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (raw_png(20_000, 20_000, 8, 2, []), "20000x20000"),
        (raw_png(2**31 - 1, 2**31 - 1, 8, 2, []), "2147483647x2147483647"),
        (raw_png(70_000, 1, 8, 0, []), "70000x1"),
        (jpeg_bomb(), "65535x65535"),
        (lossy_webp_bomb(), "16383x16383"),
        (lossless_webp_bomb(), "16384x16384"),
        (extended_webp_bomb(), "20000x20000"),
    ],
)
def test_bombs_are_refused_by_their_header(data: bytes, said: str) -> None:
    assert refusal(data, "mask").code == "image_too_large"
    with pytest.raises(InvalidImage, match=said):
        read_header(data)


def test_the_limit_is_in_megapixels() -> None:
    data = saved(picture(1000, 1000), "png")
    assert read_header(data, max_megapixels=1.0).width == 1000
    with pytest.raises(InvalidImage, match=r"1000x1000 px, 1\.0 megapixels: the limit is 0\.9"):
        read_header(data, max_megapixels=0.9)


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"\0" * 1000,
        saved(picture(), "gif"),
        saved(picture(), "bmp"),
        saved(picture(), "tiff"),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"RIFF\0\0\0\0WAVEfmt ",
    ],
)
def test_other_formats_are_refused(data: bytes) -> None:
    assert refusal(data).code == "unsupported_image_format"


@pytest.mark.parametrize(
    "data",
    [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", raw_png(0, 5, 8, 2, [])],
)
def test_what_ends_before_its_header_is_refused(data: bytes) -> None:
    assert refusal(data).code == "invalid_image"
    with pytest.raises(InvalidImage):
        read_header(data)


# 2. Every kind of picture


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        (saved(picture(), "png"), 0),
        (saved(picture().quantize(256), "png"), 24),
        (saved(picture(), "webp", lossless=True), 0),
        (saved(picture(), "webp", quality=95), 12),
        (saved(picture(), "jpeg", quality=95), 8),
        (saved(picture(), "jpeg", quality=95, progressive=True), 8),
        (saved(picture(), "mpo", save_all=True, append_images=[picture()], quality=95), 8),
        (saved(picture().convert("CMYK"), "jpeg", quality=95), 8),
        (saved(picture(), "png", icc_profile=srgb_profile()), 1),
    ],
    ids=["png", "palette", "webp-ll", "webp", "jpeg", "progressive", "mpo", "cmyk", "srgb-icc"],
)
def test_colour_pictures(data: bytes, tolerance: int) -> None:
    decoded = opened(data)
    assert decoded.shape == (32, 48, 3)
    assert np.abs(decoded - np.asarray(picture())).max() <= tolerance


@pytest.mark.parametrize("name", ["png", "jpeg"])
def test_grey_pictures_get_three_equal_channels(name: str) -> None:
    grey = picture().convert("L")
    decoded = opened(saved(grey, name, quality=95))
    assert np.abs(decoded - np.asarray(grey)[..., None]).max() <= 4


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (raw_png(3, 1, 1, 0, [b"\xa0"]), [[255] * 3, [0] * 3, [255] * 3]),
        (raw_png(3, 1, 2, 0, [b"\x1c"]), [[0] * 3, [85] * 3, [255] * 3]),
        (raw_png(2, 1, 4, 0, [b"\x1f"]), [[17] * 3, [255] * 3]),
        (raw_png(2, 1, 16, 0, [struct.pack(">2H", 65535, 0x1280)]), [[255] * 3, [18] * 3]),
        (raw_png(1, 1, 16, 2, [struct.pack(">3H", 65535, 256, 0)]), [[255, 1, 0]]),
        (raw_png(1, 1, 16, 6, [struct.pack(">4H", 65535, 256, 0, 32768)]), [[255, 1, 0, 128]]),
        (raw_png(1, 1, 8, 4, [b"\x40\x80"]), [[64, 64, 64, 128]]),
        (raw_png(1, 1, 16, 4, [struct.pack(">2H", 0x4000, 0x8000)]), [[64, 64, 64, 128]]),
    ],
    ids=["1-bit", "2-bit", "4-bit", "grey-16", "rgb-16", "rgba-16", "grey-alpha", "grey-alpha-16"],
)
def test_every_depth(data: bytes, expected: list[list[int]]) -> None:
    assert opened(data)[0].tolist() == expected


@pytest.mark.parametrize(
    ("depth", "colour_type", "row", "transparent", "alphas"),
    [
        (1, 0, b"\x80", (1,), [0, 255]),
        (2, 0, b"\xb0", (2,), [0, 255]),
        (4, 0, b"\x70", (7,), [0, 255]),
        (8, 0, b"\x07\x08", (7,), [0, 255]),
        (16, 0, struct.pack(">2H", 0x1234, 0x4321), (0x1234,), [0, 255]),
        (8, 2, b"\1\2\3\1\2\4", (1, 2, 3), [0, 255]),
        (16, 2, struct.pack(">6H", 256, 512, 768, 1, 2, 3), (256, 512, 768), [0, 255]),
    ],
)
def test_a_transparent_colour_becomes_alpha(
    depth: int, colour_type: int, row: bytes, transparent: tuple[int, ...], alphas: list[int]
) -> None:
    trns = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
    decoded = opened(raw_png(2, 1, depth, colour_type, [row], trns))
    assert decoded.shape == (1, 2, 4)
    assert decoded[0, :, 3].tolist() == alphas


@pytest.mark.parametrize("alphas", [b"\x00\xff", b"\x40\x80"])
def test_a_palette_with_alpha(alphas: bytes) -> None:
    extra = chunk(b"PLTE", bytes([9, 8, 7, 6, 5, 4])), chunk(b"tRNS", alphas)
    decoded = opened(raw_png(2, 1, 8, 3, [b"\0\1"], *extra))
    assert decoded[0].tolist() == [[9, 8, 7, alphas[0]], [6, 5, 4, alphas[1]]]


@pytest.mark.parametrize("name", ["png", "webp"])
def test_alpha_is_kept_straight(name: str) -> None:
    image = picture()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    decoded = opened(saved(image, name, lossless=True, exact=True))
    np.testing.assert_array_equal(decoded, np.asarray(image))


def test_interlaced_png() -> None:
    # Adam7 of 2x2: the corner, then the rest of the first row, then the second row.
    plain = raw_png(2, 2, 8, 0, [b"\1", b"\2", b"\3\4"])
    header = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 1)
    interlaced = plain[:8] + chunk(b"IHDR", header) + plain[33:]
    assert opened(interlaced)[..., 0].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("name", ["png", "webp"])
def test_of_an_animation_the_first_frame(name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    data = saved(frames[0], name, save_all=True, append_images=frames[1:], lossless=True)
    assert (opened(data)[..., :3] == [255, 0, 0]).all()


# 3. Colour profiles


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_an_icc_profile_is_applied(mode: str) -> None:
    red = Image.new("RGB", (4, 4), "red").convert(mode)
    decoded = opened(saved(red, "png", icc_profile=swapped_profile()))
    assert np.abs(decoded[..., :3] - [0, 255, 0]).max() <= 2
    assert decoded.shape[2] == (4 if mode == "RGBA" else 3)


def test_a_profile_leaves_alpha_alone() -> None:
    image = picture()
    image.putalpha(77)
    assert (opened(saved(image, "png", icc_profile=swapped_profile()))[..., 3] == 77).all()


@pytest.mark.parametrize("profile", [grey_profile(), swapped_profile()], ids=["grey", "colour"])
def test_grey_keeps_its_greys_under_either_kind_of_profile(profile: bytes) -> None:
    grey = picture().convert("L")
    decoded = opened(saved(grey, "png", icc_profile=profile))
    assert np.abs(decoded - np.asarray(grey)[..., None]).max() <= 2


def test_a_broken_profile_is_refused() -> None:
    data = saved(picture(), "png", icc_profile=b"not a profile" * 20)
    assert "profile" in refusal(data).message


# 4. Damage


def attempt(data: bytes) -> NDArray[np.uint8] | None:
    """The pixels, or None where they are refused; any other exception fails the test."""
    try:
        return decode(data, param="image", max_megapixels=1.0)
    except InvalidImage:
        return None


@pytest.mark.parametrize("name", FORMATS)
def test_a_truncated_file_is_refused_or_lacks_no_pixel(name: OutputFormat) -> None:
    data = saved(picture(), name)
    whole, decoded = opened(data), []
    for length in range(len(data)):
        pixels = attempt(data[:length])
        if pixels is not None:
            np.testing.assert_array_equal(pixels, whole)
            decoded.append(length)
    # Checksums and end markers may be missing: at most the last 24 bytes of the file.
    assert not decoded or min(decoded) > len(data) - 24


def test_the_damage_is_named() -> None:
    data = saved(picture(), "jpeg")
    assert "truncated" in refusal(data[:-30]).message
    broken = bytearray(saved(picture(), "png"))
    broken[30] ^= 1
    assert "checksum" in refusal(bytes(broken)).message


def mutated(draw: random.Random, data: bytes) -> bytes:
    content = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8])):
        place = draw.randrange(len(content))
        match draw.randrange(4):
            case 0:
                content[place] = draw.randrange(256)
            case 1:
                content[place] ^= 1 << draw.randrange(8)
            case 2:
                del content[place : place + draw.randrange(1, 9)]
            case _:
                content[place:place] = draw.randbytes(draw.randrange(1, 9))
    return bytes(content)


def resealed(data: bytes) -> bytes:
    """A PNG with right checksums again, so that damage gets past them."""
    out, place = data[:8], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        out += chunk(data[place + 4 : place + 8], data[place + 8 : place + 8 + length])
        place += 12 + length
    return out


def test_mutated_files_decode_or_are_refused() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    odd = {"exif": exif, "icc_profile": swapped_profile()}
    alpha = picture().convert("RGBA")
    seeds = [
        *(saved(picture(), name, **odd) for name in FORMATS),
        saved(picture(), "jpeg", progressive=True),
        saved(picture().convert("CMYK"), "jpeg"),
        saved(picture().quantize(16), "png", transparency=3),
        saved(alpha, "webp", save_all=True, append_images=[alpha.rotate(90)]),
        saved(alpha, "png", save_all=True, append_images=[alpha.rotate(90)]),
        raw_png(2, 1, 16, 0, [bytes(4)], chunk(b"tRNS", b"\0\1")),
    ]
    draw = random.Random(20260)
    outcomes = {"decoded": 0, "refused": 0}
    for number in range(900):
        data = mutated(draw, seeds[number % len(seeds)])
        if number % 2 and data.startswith(b"\x89PNG\r\n\x1a\n"):
            data = resealed(data)
        pixels = attempt(data)
        outcomes["refused" if pixels is None else "decoded"] += 1
        if pixels is not None:
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] in (3, 4)
    assert min(outcomes.values()) > 100, outcomes


# 5. Encoding


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (3, 500), (48, 32)])
def test_png_keeps_every_pixel(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(opened(encode(noise, "png", 100)), noise)


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_quality_buys_likeness_with_bytes(name: OutputFormat) -> None:
    pixels = np.asarray(picture(96, 64))
    files = [encode(pixels, name, quality) for quality in (0, 50, 100)]
    apart = [np.abs(opened(data) - pixels).mean() for data in files]
    assert len(files[0]) < len(files[1]) < len(files[2])
    assert apart[0] > apart[1] > apart[2]
    assert apart[2] < 2
    assert read_header(files[1]).format == name


def test_a_good_jpeg_keeps_fine_colours() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 255
    assert np.abs(opened(encode(stripes, "jpeg", 100)) - stripes).mean() < 1


def test_encoding_from_many_threads_gives_the_same_bytes() -> None:
    pixels = np.asarray(picture(200, 100))
    with ThreadPoolExecutor(8) as pool:
        for name in FORMATS:
            files = pool.map(lambda _, name=name: encode(pixels, name, 90), range(16))
            assert set(files) == {encode(pixels, name, 90)}


def test_a_header_of_junk_is_refused_before_it_is_read_to_the_end() -> None:
    with pytest.raises(InvalidImage):
        read_header(b"\xff\xd8\xff" + bytes(59_000_000))


@pytest.mark.parametrize(
    ("kind", "frames", "animated"), [("png", 3, True), ("webp", 3, True), ("png", 1, False)]
)
def test_the_header_tells_of_an_animation(kind: str, frames: int, animated: bool) -> None:
    colours = ["red", "green", "blue"][:frames]
    first, *rest = [Image.new("RGB", (32, 32), colour) for colour in colours]
    out = BytesIO()
    first.save(out, kind, save_all=bool(rest), append_images=rest)
    assert read_header(out.getvalue()).animated is animated
