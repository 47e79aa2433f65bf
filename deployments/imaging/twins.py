"""Each kernel again, in plain NumPy: slower, and short enough to be seen to be right."""

import numpy as np
from numpy.typing import NDArray

from deployments.imaging.filters import WEIGHT_BITS, Taps


def resample(
    pixels: NDArray[np.uint8], columns: Taps, rows: Taps, *, scale: float, offset: float
) -> NDArray[np.float32]:
    """Twin of `kernels.resample`, in float64: equal to within float32's rounding."""
    if columns.mean_of and rows.mean_of:
        grid = (len(rows.first), rows.mean_of, len(columns.first), columns.mean_of, -1)
        levels = pixels.reshape(grid).mean(axis=(1, 3)).transpose(2, 0, 1)
    else:
        one = 2.0**WEIGHT_BITS
        across = np.einsum("hwc,xw->hxc", pixels, _matrix(columns, pixels.shape[1]), optimize=True)
        across = np.clip(np.floor(across / one + 0.5), 0, 255)
        down = np.einsum("hxc,yh->cyx", across, _matrix(rows, pixels.shape[0]), optimize=True)
        levels = np.clip(down / one, 0, 255)
    return np.asarray(levels * scale + offset, np.float32)


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Twin of `kernels.on_white`, equal to the bit."""
    colour, alpha = rgba[..., :3].astype(np.int64), rgba[..., 3:].astype(np.int64)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Twin of `kernels.luma`, equal to the bit."""
    weighted = rgb[..., :3].astype(np.int64) @ np.array([19595, 38470, 7471])
    return np.asarray((weighted + 32768) >> 16, np.uint8)


def latent_grid(mask: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Twin of `kernels.latent_grid`, equal to the bit."""
    height, width = mask.shape
    cells = mask.astype(np.float32).reshape(height // factor, factor, width // factor, factor)
    return np.asarray((cells > 0).any(axis=(1, 3)), np.float32)


def composite(
    result: NDArray[np.uint8], original: NDArray[np.float32], mask: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Twin of `kernels.composite`, equal to the bit."""
    paint = mask[..., None].astype(np.float32)
    blend = paint * result.astype(np.float32) + (1 - paint) * pack(original).astype(np.float32)
    return (blend + np.float32(0.5)).astype(np.uint8)


def pack(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Twin of `kernels.pack`, equal to the bit."""
    level = np.clip(planes.astype(np.float32) * np.float32(127.5) + np.float32(127.5), 0, 255)
    return np.asarray(level + np.float32(0.5), np.uint8).transpose(1, 2, 0)


def _matrix(axis: Taps, source: int) -> NDArray[np.float64]:
    matrix = np.zeros((len(axis.first), source))
    for row, (first, weights) in enumerate(zip(axis.first, axis.weights, strict=True)):
        matrix[row, first : first + len(weights)] = weights
    return matrix
