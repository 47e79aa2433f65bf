"""A text inside a picture's file, written and read without touching a pixel.

The places are those of AUTOMATIC1111's web UI, which other tools read: the PNG text chunk
`parameters`; in JPEG and WebP, the EXIF field UserComment. Knows bytes; not what the text says.
"""

import struct
import zlib
from collections.abc import Iterator

from deployments.requests import OutputFormat

KEYWORD = b"parameters"

_EXIF = b"Exif\0\0"
_UNICODE = b"UNICODE\0"
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_UNDEFINED, _LONG = 7, 4
_MAX_SEGMENT = 65_535
"""A JPEG says a segment's length in two bytes, which count among it."""
_IHDR_END = 33
"""A PNG's signature takes 8 bytes and its first chunk 25."""


def with_parameters(content: bytes, output_format: OutputFormat, text: str) -> bytes:
    """The file with `text` in it. `content` is a file that `codecs.encode` made.

    A JPEG has room for about 32,700 characters; with a longer text it is returned as it came.
    """
    match output_format:
        case "png":
            return content[:_IHDR_END] + _png_text(text) + content[_IHDR_END:]
        case "jpeg":
            return _jpeg_with(content, _EXIF + _tiff(text))
        case "webp":
            return _webp_with(content, _tiff(text))


def parameters_of(content: bytes) -> str | None:
    """The text of any PNG, JPEG or WebP file; None where there is none that can be read."""
    if content.startswith(b"\x89PNG"):
        return _png_parameters(content)
    if content.startswith(b"\xff\xd8"):
        exifs = (body for body in _jpeg_app1s(content) if body.startswith(_EXIF))
    else:
        exifs = (body for kind, body in _webp_chunks(content) if kind == b"EXIF")
    texts = (_user_comment(exif.removeprefix(_EXIF)) for exif in exifs)
    return next((text for text in texts if text is not None), None)


def _png_text(text: str) -> bytes:
    try:
        kind, body = b"tEXt", KEYWORD + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        # Uncompressed, in no language, under no translated keyword.
        kind, body = b"iTXt", KEYWORD + b"\0\0\0\0\0" + text.encode()
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_parameters(content: bytes) -> str | None:
    at = 8
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind in (b"tEXt", b"iTXt"):
            keyword, _, rest = content[at + 8 : at + 8 + length].partition(b"\0")
            if keyword == KEYWORD and kind == b"tEXt":
                return rest.decode("latin-1")
            if keyword == KEYWORD and rest[:1] == b"\0":
                return rest[2:].split(b"\0", 2)[-1].decode(errors="replace")
        at += length + 12
    return None


def _jpeg_with(content: bytes, exif: bytes) -> bytes:
    if len(exif) + 2 > _MAX_SEGMENT:
        return content
    at = 2
    if content[2:4] == b"\xff\xe0":
        # JFIF says that its own segment is the first.
        at = 4 + int.from_bytes(content[4:6], "big")
    return content[:at] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[at:]


def _jpeg_app1s(content: bytes) -> Iterator[bytes]:
    at = 2
    # Up to the scan, which is all pixels.
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if content[at + 1] == 0xE1:
            yield content[at + 4 : at + 2 + length]
        at += 2 + length


def _webp_with(content: bytes, exif: bytes) -> bytes:
    """A simple lossy file has no room for more than its pixels: it becomes an extended one."""
    ((kind, pixels),) = _webp_chunks(content)
    assert kind == b"VP8 "
    width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", pixels, 6))
    has_exif = b"\x08\0\0\0"
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = _riff(b"VP8X", has_exif + sides) + _riff(kind, pixels) + _riff(b"EXIF", exif)
    return _riff(b"RIFF", b"WEBP" + chunks)


def _webp_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, at)
        yield kind, content[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _tiff(text: str) -> bytes:
    """EXIF with one field. Big-endian, as the text in it always is."""
    comment = _UNICODE + text.encode("utf-16-be")
    return (
        b"MM\0*"
        + struct.pack(">I", 8)
        + struct.pack(">HHHIII", 1, _EXIF_IFD, _LONG, 1, 26, 0)
        + struct.pack(">HHHIII", 1, _USER_COMMENT, _UNDEFINED, len(comment), 44, 0)
        + comment
    )


def _user_comment(tiff: bytes) -> str | None:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (first_ifd,) = struct.unpack_from(order + "I", tiff, 4)
        _, exif_ifd = _field(tiff, order, first_ifd, _EXIF_IFD)
        length, at = _field(tiff, order, exif_ifd, _USER_COMMENT)
    except (struct.error, KeyError):
        # It ends too early, or has no such field.
        return None
    comment = tiff[at : at + length]
    if comment.startswith(_UNICODE):
        return comment.removeprefix(_UNICODE).decode("utf-16-be", errors="replace")
    return comment[len(_UNICODE) :].decode(errors="replace")


def _field(tiff: bytes, order: str, ifd: int, tag: int) -> tuple[int, int]:
    """Count and value of a field; the value of a long one is where it lies."""
    (num_fields,) = struct.unpack_from(order + "H", tiff, ifd)
    for i in range(num_fields):
        found, _, count, value = struct.unpack_from(order + "HHII", tiff, ifd + 2 + 12 * i)
        if found == tag:
            return count, value
    raise KeyError(tag)
