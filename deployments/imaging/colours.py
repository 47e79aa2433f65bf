"""Any mode, depth and colour space that Pillow reads, brought to 8-bit sRGB."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageCms
from PIL.ImageFile import ImageFile


def to_srgb(image: ImageFile) -> Image.Image:
    """Decodes an opened file to mode RGB, or RGBA where it has alpha of any kind.

    Raises whatever Pillow raises for bad bytes.
    """
    picture = _to_8_bit(image)
    if picture.mode == "P" and picture.palette is None:
        # A PNG that lacks it, of which Pillow asserts that it does not.
        raise ValueError("its colours are numbers in a palette that is missing")
    profile = _profile(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
    if profile is None:
        return picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGB")
    coloured = ImageCms.profileToProfile(
        picture.convert(_MODES[profile.profile.xcolor_space]),
        profile,
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
    )
    assert coloured is not None  # it is None only when asked to work in place
    if picture.mode == "RGBA":
        coloured.putalpha(picture.getchannel("A"))
    return coloured


def _to_8_bit(image: ImageFile) -> Image.Image:
    # Pillow scales the pixels of a PNG to 8 bits, but not the value that means transparent.
    transparent = image.info.get("transparency")
    scale = _SCALES.get(str(image.tile[0].args), 1.0) if image.tile else 1.0
    if isinstance(transparent, int):
        image.info["transparency"] = int(transparent * scale)
    elif isinstance(transparent, tuple):
        image.info["transparency"] = tuple(int(value * scale) for value in transparent)
    image.load()
    if image.mode != "I;16":
        return image
    # The high byte, which is what Pillow itself takes of 16-bit colours.
    grey = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    grey.info = image.info
    return grey


def _profile(picture: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The picture's ICC profile, if it is one for its kind of colours."""
    if not picture.info.get("icc_profile"):
        return None
    profile = ImageCms.ImageCmsProfile(BytesIO(picture.info["icc_profile"]))
    # A grey JPEG often keeps the RGB profile of the colour picture it was: it means nothing there.
    kind = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK"}.get(picture.mode, "RGB")
    return profile if _MODES.get(profile.profile.xcolor_space) == kind else None


_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Pillow's mode for each colour space that an ICC profile can be for."""

_SCALES = {"L;2": 85.0, "L;4": 17.0, "I;16B": 1 / 256, "RGB;16B": 1 / 256}
"""From a PNG's own sample values to 8 bits, by Pillow's name for their layout."""
