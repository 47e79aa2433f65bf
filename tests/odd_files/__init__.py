"""Files that a client may send as its image, each with the picture or the refusal it must get.

Made here to the byte. What is expected follows from the pixels that were written and from the
formats' rules; no decoder was asked.
"""

from tests.odd_files import jpeg, others, png, png_chunks, png_damage, webp
from tests.odd_files.make import Case

__all__ = ["CASES", "Case"]

CASES: list[Case] = [
    *png.KINDS,
    *png.FILTERS,
    *png.SIZES,
    *png.TRANSPARENT,
    *png.PALETTES,
    *png_chunks.COMPANIONS,
    *png_chunks.PROFILES,
    *png_chunks.TURNED,
    *png_chunks.ANIMATED,
    *png_damage.CUT,
    *png_damage.HEADERS,
    *png_damage.CHECKSUMS,
    *png_damage.CHUNKS,
    *png_damage.PIXEL_DATA,
    *png_damage.BOMBS,
    *jpeg.KINDS,
    *jpeg.SEGMENTS,
    *jpeg.TURNED,
    *jpeg.CUT,
    *jpeg.DAMAGED,
    *webp.KINDS,
    *webp.CONTAINERS,
    *webp.TURNED,
    *webp.CUT,
    *webp.DAMAGED,
    *others.FORMATS,
    *others.POLYGLOTS,
    *others.HUGE,
]
