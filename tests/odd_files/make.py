"""A file and what must come of it, and the picture that most of the files hold."""

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Code = Literal["invalid_image", "image_too_large", "unsupported_image_format"]


@dataclass(frozen=True, eq=False)
class Case:
    """A file, and either the pixels that it shows or the code that it is refused with."""

    name: str
    data: bytes
    expected: NDArray[np.uint8] | Code
    """(height, width, 3), or 4 with straight alpha."""
    tolerance: int = 0
    """Steps of 255 that a pixel may be off."""
    says: str = ""
    """A part of the refusal's message."""
    padding: int = 0
    """Zero bytes after `data`, not kept in memory."""

    def content(self) -> bytes:
        return self.data + bytes(self.padding)


def picture(width: int = 48, height: int = 32) -> Image.Image:
    """Smooth, and different in every corner, so that JPEG is close and a turn is seen."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1)
    return Image.fromarray(np.stack([red, green, 128 + 0 * x], axis=-1).astype(np.uint8))


PIXELS: NDArray[np.uint8] = np.asarray(picture())

GREY: NDArray[np.uint8] = np.repeat(PIXELS[..., :1], 3, axis=2)

ALPHA: NDArray[np.uint8] = np.dstack(
    [PIXELS, np.tile(np.linspace(64, 255, 48).astype(np.uint8), (32, 1))]
)


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def flat(width: int, height: int, *colour: int) -> NDArray[np.uint8]:
    return np.full((height, width, len(colour)), colour, np.uint8)


def patched(data: bytes, place: int, new: bytes) -> bytes:
    """`new` in the place of as many bytes."""
    return data[:place] + new + data[place + len(new) :]


# 1. Colour profiles


def srgb_profile() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # It says when it was made: then, so that every run makes the same bytes.
    return patched(profile, 24, struct.pack(">6H", 2000, 1, 1, 0, 0, 0))


def swapped_profile() -> bytes:
    """An ICC profile in which red is sRGB's green, and green its red."""
    profile = srgb_profile().replace(b"rXYZ", b"????", 1)
    return profile.replace(b"gXYZ", b"rXYZ", 1).replace(b"????", b"gXYZ", 1)


def grey_profile() -> bytes:
    return srgb_profile().replace(b"RGB ", b"GRAY", 1).replace(b"rTRC", b"kTRC", 1)


SWAPPED: NDArray[np.uint8] = PIXELS[..., [1, 0, 2]]
"""What the picture looks like under the swapped profile."""

NO_PROFILE = b"not a profile" * 20


# 2. EXIF orientation


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def turned(stored: NDArray[np.uint8], value: int) -> NDArray[np.uint8]:
    """What is seen of `stored` under that EXIF orientation."""
    match value:
        case 2:
            return stored[:, ::-1]
        case 3:
            return stored[::-1, ::-1]
        case 4:
            return stored[::-1]
        case 5:
            return stored.swapaxes(0, 1)
        case 6:
            return stored[::-1].swapaxes(0, 1)
        case 7:
            return stored[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return stored[:, ::-1].swapaxes(0, 1)
        case _:
            return stored


def turned_cases(name: str, tolerance: int) -> list[Case]:
    """The eight orientations that EXIF knows, and two that it does not."""
    return [
        Case(
            f"{name} with EXIF orientation {value}",
            saved(picture(), name, exif=orientation(value), quality=95),
            turned(PIXELS, value),
            tolerance,
        )
        for value in (*range(1, 9), 0, 77)
    ]


# 3. Ends missing


def cut_cases(name: str, data: bytes, points: int, signature: int) -> list[Case]:
    """Cut at so many places, the last of them early enough that a pixel is lost for certain.

    Checksums and end markers take less than 20 bytes of any format.
    """
    places = np.linspace(1, len(data) - 25, points).astype(int).tolist()
    return [
        Case(
            f"{name} cut after {place} of {len(data)} bytes",
            data[:place],
            "unsupported_image_format" if place < signature else "invalid_image",
        )
        for place in places
    ]
