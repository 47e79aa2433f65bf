"""A preview of the engine's, small and always a JPEG, as the picture that it will become."""

import cv2
import numpy as np

from deployments.imaging.codecs import decode, encode
from deployments.requests import Row


def enlarged(preview: bytes, row: Row) -> bytes:
    """The preview in the size and the format of the row's picture.

    Takes as long as any encoding of that size: call it on a thread.
    """
    small = decode(preview, param="preview", max_megapixels=1.0)
    large = cv2.resize(small, (row.width, row.height), interpolation=cv2.INTER_CUBIC)
    return encode(np.asarray(large, np.uint8), row.output_format, row.output_compression)
