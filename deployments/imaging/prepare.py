"""From the bytes of an image and its mask to arrays on a model's grid."""

import numpy as np
from numpy.typing import NDArray

from deployments.errors import InvalidImage
from deployments.imaging import kernels
from deployments.imaging.codecs import ImageHeader, decode, read_header
from deployments.imaging.filters import blur, filter_for, scaled_size, taps
from deployments.imaging.settings import ImagingSettings
from deployments.requests import MaskPolarity, PreparedImage, PrepareSpec


def prepare(
    image: bytes, mask: bytes | None, spec: PrepareSpec, settings: ImagingSettings
) -> PreparedImage:
    """Decodes both files and brings them to the spec's size.

    Raises `InvalidImage`, its `param` "image" or "mask", for a file that cannot be decoded, is
    above `max_megapixels`, or is a mask of another size than the image or with nothing to paint.
    """
    # 1. Refuse what the headers already tell.
    limit = settings.max_megapixels
    header = read_header(image, param="image", max_megapixels=limit)
    if mask is not None:
        _check_mask_size(header, mask, limit)
    warnings = (_ANIMATED,) if header.animated else ()

    # 2. The image.
    pixels = decode(image, param="image", max_megapixels=limit)
    if pixels.shape[2] == 4:
        pixels = kernels.on_white(pixels)
    planes = _resized(pixels, spec, settings, scale=1 / 127.5, offset=-1.0)
    if mask is None:
        return PreparedImage(pixels=planes, mask=None, latent_mask=None, warnings=warnings)

    # 3. The mask. It goes through the image's own filters, so that their edges meet.
    painted = _painted(decode(mask, param="mask", max_megapixels=limit), spec.mask_polarity)
    levels = painted[..., None] * np.uint8(255)
    soft = _resized(levels, spec, settings, scale=1 / 255, offset=0.0)[0]
    if spec.mask_blur:
        soft = _blurred(soft, spec.mask_blur)
    soft[soft < _HALF_A_STEP] = 0  # a trace of paint that no pixel would show
    if not soft.any():
        cure = _CURES[spec.mask_polarity] + (" or lower mask_blur" if spec.mask_blur else "")
        raise InvalidImage(
            f"mask leaves nothing to paint at {spec.width}x{spec.height} px: {cure}", param="mask"
        )
    return PreparedImage(
        pixels=planes,
        mask=soft,
        latent_mask=kernels.latent_grid(soft, spec.latent_factor),
        warnings=warnings,
    )


_HALF_A_STEP = 0.5 / 255
_ANIMATED = "image is animated: only its first frame was used"


def _check_mask_size(of_image: ImageHeader, mask: bytes, max_megapixels: float) -> None:
    of_mask = read_header(mask, param="mask", max_megapixels=max_megapixels)
    if (of_image.width, of_image.height) != (of_mask.width, of_mask.height):
        raise InvalidImage(
            f"mask is {of_mask.width}x{of_mask.height} px and image is "
            f"{of_image.width}x{of_image.height} px: send a mask of the image's size "
            "(after any EXIF rotation)",
            param="mask",
        )


def _resized(
    pixels: NDArray[np.uint8],
    spec: PrepareSpec,
    settings: ImagingSettings,
    *,
    scale: float,
    offset: float,
) -> NDArray[np.float32]:
    height, width, _ = pixels.shape
    target = spec.width, spec.height
    to_width, to_height = scaled_size((width, height), target, spec.resize_mode)
    chosen = None if settings.filter == "auto" else settings.filter
    columns = taps(width, spec.width, chosen or filter_for(width, to_width), to_width)
    rows = taps(height, spec.height, chosen or filter_for(height, to_height), to_height)
    return kernels.resample(pixels, columns, rows, scale=scale, offset=offset)


def _blurred(mask: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """A soft edge: there the result shows through more and more, instead of at once."""
    height, width = mask.shape
    levels = np.rint(mask * 255).astype(np.uint8)[..., None]
    columns, rows = blur(width, sigma), blur(height, sigma)
    return np.asarray(kernels.resample(levels, columns, rows, scale=1 / 255, offset=0.0)[0])


def _painted(mask: NDArray[np.uint8], polarity: MaskPolarity) -> NDArray[np.bool_]:
    """(height, width): which pixels the client wants painted."""
    has_alpha = mask.shape[2] == 4
    if polarity == "transparent":
        if not has_alpha:
            raise InvalidImage(
                f"mask has no alpha channel: send a PNG or WebP and {_CURES[polarity]}",
                param="mask",
            )
        return mask[..., 3] < 128
    if polarity == "black":
        return ~_painted(mask, "white")
    # AUTOMATIC1111's clients send either a black and white picture or one drawn in alpha.
    if has_alpha and mask[..., 3].min() != mask[..., 3].max():
        return mask[..., 3] > 128
    return kernels.luma(mask) > 127


_CURES: dict[MaskPolarity, str] = {
    "transparent": "make the parts to paint transparent",
    "white": "make the parts to paint white",
    "black": "make the parts to paint black",
}
