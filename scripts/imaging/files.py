"""From pixels to files and back: our codecs against Pillow as it comes, and OpenCV.

A JPEG of ours at quality 90 keeps all of the colour (4:4:4), Pillow's a quarter of it (4:2:0), so
ours is larger; a PNG's pixels are checked to be the same. What is decoded are Pillow's files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployments.imaging.codecs import decode, encode
from deployments.requests import OutputFormat
from imaging.pictures import photo
from imaging.turns import Effort, Figures, medians_ms

FORMATS: tuple[OutputFormat, ...] = ("png", "jpeg", "webp")
QUALITY = 90
"""Of JPEG and WebP."""
MAX_MEGAPIXELS = 32.0


def measure(
    side: int, others: Mapping[str, NDArray[np.uint8]], effort: Effort
) -> dict[str, Figures]:
    """The photo in every format, there and back, and the other pictures as PNG."""
    pixels = photo(side)
    found = {f"{name}_{side}": encoding(pixels, name, effort) for name in FORMATS}
    for title, other in others.items():
        found[f"png_{side}_{title}"] = encoding(other, "png", effort)
    for name in FORMATS:
        found[f"decode_{name}_{side}"] = medians_ms(decoders(saved(pixels, name)), effort)
    return found


def encoding(pixels: NDArray[np.uint8], output_format: OutputFormat, effort: Effort) -> Figures:
    """Milliseconds and bytes of each."""
    image = Image.fromarray(pixels)
    rivals: dict[str, Callable[[], bytes]] = {
        "ours": lambda: encode(pixels, output_format, QUALITY),
        "pillow": lambda: _saved(image, output_format),
        "opencv": lambda: _encoded(pixels, output_format),
    }
    files = {name: call() for name, call in rivals.items()}
    if output_format == "png":
        _check_lossless(pixels, files)
    took = medians_ms(rivals, effort)
    figures: Figures = {}
    for name, content in files.items():
        figures |= {f"{name}_ms": took[f"{name}_ms"], f"{name}_bytes": len(content)}
    return figures


def decoders(content: bytes) -> dict[str, Callable[[], NDArray[np.uint8]]]:
    """Calls that make (height, width, 3) of a file."""

    def ours() -> NDArray[np.uint8]:
        return decode(content, param="image", max_megapixels=MAX_MEGAPIXELS)

    def pillow_numpy() -> NDArray[np.uint8]:
        with Image.open(BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))

    def opencv_numpy() -> NDArray[np.uint8]:
        raw = np.frombuffer(content, np.uint8)
        return np.asarray(cv2.imdecode(raw, cv2.IMREAD_COLOR_RGB), np.uint8)

    return {"ours": ours, "pillow_numpy": pillow_numpy, "opencv_numpy": opencv_numpy}


def saved(pixels: NDArray[np.uint8], output_format: OutputFormat) -> bytes:
    """Pillow's file, with nothing chosen but the quality."""
    return _saved(Image.fromarray(pixels), output_format)


def _saved(image: Image.Image, output_format: OutputFormat) -> bytes:
    buffer = BytesIO()
    if output_format == "png":
        image.save(buffer, "png")
    else:
        image.save(buffer, output_format, quality=QUALITY)
    return buffer.getvalue()


def _encoded(pixels: NDArray[np.uint8], output_format: OutputFormat) -> bytes:
    quality = {
        "jpeg": [cv2.IMWRITE_JPEG_QUALITY, QUALITY],
        "webp": [cv2.IMWRITE_WEBP_QUALITY, QUALITY],
    }
    colours = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(f".{output_format}", colours, quality.get(output_format, []))
    return bytes(content)


def _check_lossless(pixels: NDArray[np.uint8], files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        for decoder, call in decoders(content).items():
            if not np.array_equal(call(), pixels):
                raise RuntimeError(f"{decoder} finds other pixels in the PNG of {name}")
