"""What is no PNG, JPEG or WebP, what is two things at once, and what is very long."""

import base64
import gzip
import struct
import zipfile
from io import BytesIO

from tests.odd_files import jpeg, webp
from tests.odd_files.make import PIXELS, Case, picture, saved
from tests.odd_files.png_writer import SIGNATURE, png

PNG, JPEG, WEBP = png(PIXELS, 2, 8), jpeg.BASE, webp.LOSSLESS


def zipped(name: str, content: bytes) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


ZIP = zipped("house.png", PNG)
HTML = b"<!DOCTYPE html><script>alert(document.cookie)</script>"


def box(brand: bytes) -> bytes:
    """The start of a file of the MP4 kind."""
    return struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"mif1" + brand + bytes(200)


OTHER_FORMATS: dict[str, bytes] = {
    "one byte": b"\x89",
    "a byte of JPEG": b"\xff",
    "two bytes of JPEG": b"\xff\xd8",
    "half a signature of PNG": SIGNATURE[:4],
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "text": b"a red house",
    "a line break before PNG": b"\n" + PNG,
    "PNG sent as text": PNG.replace(b"\r\n", b"\n"),
    "PNG in base64": base64.b64encode(PNG),
    "PNG as a data URL": b"data:image/png;base64," + base64.b64encode(PNG),
    "PNG in gzip": gzip.compress(PNG, mtime=0),
    "PNG in UTF-16": PNG.decode("latin-1").encode("utf-16"),
    "PNG after a byte order mark": b"\xef\xbb\xbf" + PNG,
    "PNG in a zip": ZIP,
    "PNG in HTML": HTML + PNG,
    "JPEG in PDF": b"%PDF-1.7\n1 0 obj<</Filter/DCTDecode>>stream\n" + JPEG + b"\n%%EOF",
    "GIF": saved(picture(), "gif"),
    "GIF with a PNG inside": saved(picture(), "gif") + PNG,
    "BMP": saved(picture(), "bmp"),
    "TIFF": saved(picture(), "tiff"),
    "TIFF of JPEG": saved(picture(), "tiff", compression="jpeg"),
    "ICO": saved(picture(), "ico"),
    "ICNS": b"icns" + struct.pack(">I4sI", 16 + len(PNG), b"ic07", 8 + len(PNG)) + PNG,
    "PPM": saved(picture(), "ppm"),
    "TGA": saved(picture(), "tga"),
    "PCX": saved(picture(), "pcx"),
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 32\n",
    "PSD": b"8BPS\0\1" + bytes(100),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "SVG with entities": b"<!DOCTYPE a [<!ENTITY b 'cc'>]><svg>&b;</svg>",
    "AVIF": box(b"avif"),
    "HEIC": box(b"heic"),
    "MP4": box(b"isom"),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
    "JPEG XL": b"\xff\x0a" + bytes(100),
    "JPEG after an end marker": b"\xff\xd9" + JPEG,
    "MNG": b"\x8aMNG\r\n\x1a\n" + PNG[8:],
    "EXR": b"\x76\x2f\x31\x01" + bytes(100),
    "WAV": b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + bytes(28),
    "AVI": b"RIFF" + struct.pack("<I", 36) + b"AVI LIST" + bytes(28),
    "WebP in big endian": b"RIFX" + WEBP[4:],
    "JSON": b'{"image": "house.png"}',
    "a pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "a program": b"\x7fELF\x02\x01\x01" + bytes(100),
}

FORMATS = [
    Case("no bytes", b"", "invalid_image", says="is empty (0 bytes)"),
    *[
        Case(name, data, "unsupported_image_format", says=f"its {len(data)} bytes begin with")
        for name, data in OTHER_FORMATS.items()
    ],
]

POLYGLOTS = [
    *[
        Case(f"{name} with {kind} after it", data + rest, PIXELS, tolerance)
        for name, data, tolerance in [("PNG", PNG, 0), ("JPEG", JPEG, jpeg.LOSS), ("WebP", WEBP, 0)]
        for kind, rest in {"a zip": ZIP, "HTML": HTML, "a PNG": png(PIXELS[::-1], 2, 8)}.items()
    ],
    Case("JPEG with a PNG in a segment", jpeg.first(jpeg.segment(0xED, PNG)), PIXELS, jpeg.LOSS),
    Case("JPEG with a PDF in its comment", jpeg.first(jpeg.segment(0xFE, b"%PDF-1.7")), PIXELS, 8),
    Case("lossy WebP called lossless", webp.LOSSY.replace(b"VP8 ", b"VP8L"), "invalid_image"),
    Case("JPEG under the signature of PNG", SIGNATURE + JPEG, "invalid_image"),
    Case("WebP under the signature of PNG", SIGNATURE + WEBP, "invalid_image"),
    Case("PNG under the signature of JPEG", b"\xff\xd8\xff" + PNG, "invalid_image"),
    Case("WebP under the signature of JPEG", b"\xff\xd8\xff" + WEBP, "invalid_image"),
    Case("PNG under the signature of WebP", WEBP[:12] + PNG, "invalid_image"),
    Case("text under the signature of PNG", SIGNATURE + HTML * 99, "invalid_image"),
]

LONG = 60_000_000

HUGE = [
    Case("60 MB of zeros", b"", "unsupported_image_format", padding=LONG),
    Case("60 MB of zeros as PNG", SIGNATURE, "invalid_image", padding=LONG),
    Case("60 MB of zeros as JPEG", b"\xff\xd8\xff", "invalid_image", padding=LONG),
    Case("60 MB of zeros as WebP", WEBP[:12], "invalid_image", padding=LONG),
    Case("PNG and 60 MB of zeros", PNG, PIXELS, padding=LONG),
    Case("JPEG and 60 MB of zeros", JPEG, PIXELS, jpeg.LOSS, padding=LONG),
    Case("WebP and 60 MB of zeros", WEBP, PIXELS, padding=LONG),
]
