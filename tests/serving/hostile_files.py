"""Pictures that were made to harm whoever opens them, each small enough to be sent."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

__all__ = ["absurd_headers", "bombs", "damaged", "good_files", "other_formats", "polyglots", "wide"]

JPEG_END = b"\xff\xd9"


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of a picture's file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def good_files() -> dict[str, bytes]:
    """A picture of noise in each format that is read."""
    pixels = np.random.default_rng(7).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    return {
        "jpeg": saved(picture, "JPEG"),
        "progressive-jpeg": saved(picture, "JPEG", progressive=True),
        "png": saved(picture, "PNG"),
        "gif": saved(picture.quantize(), "GIF"),
        "webp": saved(picture, "WEBP"),
        "tiff": saved(picture, "TIFF", compression="tiff_lzw"),
        "bmp": saved(picture, "BMP"),
        "ppm": saved(picture, "PPM"),
    }


def damaged(*, cuts: int, flips: int) -> dict[str, bytes]:
    """Each format cut at many places, and with a few bits flipped."""
    files = {}
    for kind, content in good_files().items():
        for number in range(cuts):
            at = 1 + number * (len(content) - 2) // cuts
            files[f"{kind}-cut-at-{at}"] = content[:at]
        for seed in range(flips):
            noise = np.random.default_rng(seed)
            changed = bytearray(content)
            # The first flips are in the head, where sizes and offsets are.
            for place in noise.integers(0, 64 if seed % 2 else len(content), 4):
                changed[place] ^= 1 << int(noise.integers(8))
            files[f"{kind}-flips-{seed}"] = bytes(changed)
    return files


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *, depth: int = 1, colour: int = 0, extra: bytes = b"") -> bytes:
    """A black PNG whose rows are sent without their zeros: a file of a few hundred bytes at most."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(bytes(min(width // 8 + 1, 10**6) * min(height, 100)))
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", head)
        + extra
        + png_chunk(b"IDAT", data)
        + png_chunk(b"IEND", b"")
    )


def wide(mode: str) -> bytes:
    """A whole picture of 25 million pixels in a file of a few kB, the largest that is taken."""
    return saved(Image.new(mode, (5000, 5000), 1 if mode == "1" else (9, 99, 200, 128)), "PNG")


def tiff(fields: Sequence[tuple[int, int, int, int]], *, behind: bytes = b"", big: bool = False) -> bytes:
    """A TIFF of one directory with fields (tag, type, count, value)."""
    if big:
        rows = b"".join(struct.pack("<HHQQ", *field) for field in fields)
        return (
            b"II\x2b\0\x08\0\0\0" + struct.pack("<QQ", 16, len(fields)) + rows + struct.pack("<Q", 0) + behind
        )
    rows = b"".join(struct.pack("<HHII", *field) for field in fields)
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + rows + struct.pack("<I", 0) + behind


def tiled_tiff(parts: int, *, kind: int = 4, big: bool = False) -> bytes:
    """A TIFF that names this many tiles of one pixel, by offsets of a kind (1: bytes, 4: four bytes)."""
    size = (16 + 8 + 9 * 20 + 8) if big else (8 + 2 + 9 * 12 + 4)
    fields = [
        *((256, 4, 1, 5000), (257, 4, 1, 5000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)),
        *((277, 3, 1, 1), (322, 4, 1, 1), (323, 4, 1, 1), (324, kind, parts, size)),
    ]
    return tiff(fields, behind=bytes(parts * (4 if kind == 4 else 1)), big=big)


def jpeg_of_size(width: int, height: int, *, components: int = 3) -> bytes:
    """A JPEG whose head alone says this size."""
    content = good_files()["jpeg"]
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + bytes([components & 255]) + content[at + 5 :]


def jpeg_of_scans(scans: int) -> bytes:
    """A progressive JPEG that goes over its picture this many times more, each time with nothing to say."""
    content = saved(Image.new("RGB", (5000, 4000), (10, 200, 30)), "JPEG", progressive=True, quality=1)
    at = content.rindex(b"\xff\xda")
    head = content[at : at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")]
    return content.removesuffix(JPEG_END) + head * scans + JPEG_END


def jpeg_with(segments: bytes) -> bytes:
    """A JPEG with more segments behind its first two bytes."""
    content = good_files()["jpeg"]
    return content[:2] + segments + content[2:]


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def bombs() -> dict[str, bytes]:
    """Few bytes that would be many pixels, or much work."""
    gif_head = b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + bytes(6)
    gif = gif_head + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\0;"
    vp8x = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xfe\x3f\0\xfe\x3f\0"
    lossless = b"VP8L" + struct.pack("<I", 6) + b"\x2f\xff\xff\xff\x0f\0"
    zeros = zlib.compress(bytes(100 * 2**20), 9)
    size = ((256, 4, 1, 40_000), (257, 4, 1, 40_000), (258, 3, 1, 1), (259, 3, 1, 1), (262, 3, 1, 1))
    return {
        "png-30-million-pixels-of-1-bit": saved(Image.new("1", (6000, 5000)), "PNG"),
        "png-20000-square": png(20_000, 20_000),
        "png-of-the-largest-size": png(2**31 - 1, 2**31 - 1),
        "png-16-bit-rgba": png(10_000, 10_000, depth=16, colour=6),
        "png-one-line": png(2**31 - 1, 1),
        "png-text-of-100-mib": png(8, 8, extra=png_chunk(b"zTXt", b"a\0\0" + zeros)),
        "png-text-of-100-mib-international": png(8, 8, extra=png_chunk(b"iTXt", b"a\0\1\0\0\0" + zeros)),
        "gif-65535-square": gif,
        "webp-16383-square": b"RIFF" + struct.pack("<I", 22 + len(lossless)) + b"WEBP" + vp8x + lossless,
        "webp-lossless-16384-square": b"RIFF" + struct.pack("<I", 18) + b"WEBP" + lossless,
        "tiff-40000-square-of-1-bit": tiff([*size, (273, 4, 1, 8), (278, 4, 1, 40_000), (279, 4, 1, 9)]),
        "tiff-70000-tiles": tiled_tiff(70_000),
        "tiff-2-million-tiles": tiled_tiff(2_000_000),
        "tiff-9-million-tiles-of-byte-offsets": tiled_tiff(9_000_000, kind=1),
        "bigtiff-2-million-tiles": tiled_tiff(2_000_000, big=True),
        "bmp-40000-square": b"BM"
        + struct.pack("<IIIIiiHHIIIIII", 99, 0, 54, 40, 40_000, 40_000, 1, 1, *[0] * 6),
        "ppm-100000-square": b"P6 100000 100000 255\n" + bytes(100),
        "pbm-1-million-square": b"P4 1000000 1000000\n" + bytes(100),
        "jpeg-65500-square": jpeg_of_size(65_500, 65_500),
        "jpeg-200-scans": jpeg_of_scans(200),
        "jpeg-500000-scans": jpeg_of_scans(500_000),
        "jpeg-500000-comments": jpeg_with(jpeg_segment(0xFE, b"") * 500_000),
        "jpeg-9-mb-of-marks": jpeg_with(b"\xff" * 9_000_000),
        "jpeg-9-mb-of-no-marks": jpeg_with(b"\xff\0" * 4_500_000),
        "jpeg-4-million-beginnings": jpeg_with(b"\xff\xd8" * 4_500_000),
        "ppm-4-million-comments": b"P3 5000 5000 255\n" + b"#\n" * 4_500_000,
        "jpeg-500000-pieces-of-exif": jpeg_with(jpeg_segment(0xE1, b"Exif\0\0a") * 500_000),
    }


def absurd_headers() -> dict[str, bytes]:
    """Sizes of nothing, and numbers that no picture has."""
    size = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 0)]
    bmp = "<IIIIiiHHIIIIII"
    webp = good_files()["webp"]
    gif = good_files()["gif"]
    return {
        "nothing": b"",
        "one-byte": b"\xff",
        "a-zero": b"\0",
        "zeros": bytes(100_000),
        "png-0x0": png(0, 0),
        "png-0-high": png(8, 0),
        "png-depth-99": png(8, 8, depth=99),
        "png-colour-7": png(8, 8, colour=7),
        "png-chunk-of-4-gib": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**32 - 1) + b"IHDR" + bytes(99),
        "png-no-head": b"\x89PNG\r\n\x1a\n" + png_chunk(b"IEND", b""),
        "png-profile-of-zeros": png(8, 8, extra=png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**7)))),
        "png-50000-chunks": png(8, 8, extra=png_chunk(b"tEXt", b"a\0b") * 50_000),
        "gif-0x0": b"GIF89a" + bytes(7) + b";",
        "gif-code-size-255": gif[: gif.index(b",", 700) + 10] + b"\xff\x01\0\0;",
        "gif-50000-comments": gif[:781] + b"\x21\xfe\x01a\0" * 50_000 + gif[781:],
        "bmp-0x0": b"BM" + struct.pack(bmp, 54, 0, 54, 40, 0, 0, 1, 24, *[0] * 6),
        "bmp-negative": b"BM" + struct.pack(bmp, 54, 0, 54, 40, -(2**31), -(2**31), 1, 24, *[0] * 6),
        "bmp-data-far-away": b"BM" + struct.pack(bmp, 54, 0, 2**32 - 1, 40, 8, 8, 1, 24, *[0] * 6),
        "bmp-run-length": b"BM"
        + struct.pack(bmp, 54, 0, 54, 40, 999, 999, 1, 8, 1, *[0] * 5)
        + b"\xff\0" * 9,
        "ppm-0x0": b"P6 0 0 255\n",
        "ppm-of-many-digits": b"P6 " + b"9" * 100_000 + b" 1 255\n",
        "ppm-brightest-0": b"P6 8 8 0\n" + bytes(192),
        "ppm-brightest-1-billion": b"P6 8 8 1000000000\n" + bytes(192),
        "ppm-only-comments": b"P6\n" + b"#" * 100_000,
        "pgm-plain-of-letters": b"P2 8 8 255\n" + b"a " * 64,
        "tiff-no-fields": tiff([]),
        "tiff-directory-that-leads-to-itself": tiff(size)[:-4] + struct.pack("<I", 8),
        "tiff-directory-far-away": b"II*\0" + struct.pack("<I", 2**32 - 1),
        "tiff-0-wide": tiff([(256, 4, 1, 0), *size[1:]]),
        "tiff-count-of-4-billion": tiff([*size[:2], (258, 3, 2**32 - 1, 0), *size[3:]]),
        "tiff-999-samples": tiff([*size, (277, 3, 1, 999)]),
        "tiff-compression-unknown": tiff([*size[:3], (259, 3, 1, 31_337), *size[4:]]),
        "jpeg-0x0": jpeg_of_size(0, 0),
        "jpeg-255-components": jpeg_of_size(8, 8, components=255),
        "jpeg-no-end": good_files()["jpeg"][:-2] + bytes(100_000),
        "jpeg-only-marks": b"\xff\xd8" + b"\xff" * 100_000,
        "jpeg-length-0": b"\xff\xd8\xff\xe0\0\0" + bytes(99),
        "jpeg-exif-of-9-mb": jpeg_with(jpeg_segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 140),
        "jpeg-exif-that-leads-to-itself": jpeg_with(
            jpeg_segment(0xE1, b"Exif\0\0" + tiff([(34665, 4, 1, 8), (274, 3, 1, 9999)])[:-4] + b"\x08\0\0\0")
        ),
        "jpeg-exif-of-4-billion": jpeg_with(jpeg_segment(0xE1, b"Exif\0\0" + tiff([(274, 2, 2**32 - 1, 0)]))),
        "jpeg-icc-in-255-pieces": jpeg_with(
            b"".join(jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes([n, 255])) for n in range(255))
        ),
        "webp-of-4-gib": webp[:4] + b"\xff\xff\xff\xff" + webp[8:],
        "webp-no-chunks": webp[:12],
    }


def polyglots() -> dict[str, tuple[bytes, bool]]:
    """Files that are two things at once, and whether one of them is a picture where a picture begins."""
    files = good_files()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("index.html", "<script>alert(1)</script>")
    pdf = b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\n%%EOF\n"
    html = b"<html><script>alert(document.cookie)</script></html>"
    laughs = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
    svg = b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY l0 "ha">%s]><svg>&l9;</svg>' % laughs
    return {
        "pdf-then-jpeg": (pdf + files["jpeg"], False),
        "jpeg-with-pdf-inside": (jpeg_with(jpeg_segment(0xFE, pdf)), True),
        "jpeg-then-pdf": (files["jpeg"] + pdf, True),
        "html-then-png": (html + files["png"], False),
        "png-with-html-inside": (png(8, 8, extra=png_chunk(b"tEXt", b"Comment\0" + html)), True),
        "png-then-html": (files["png"] + html, True),
        "jpeg-then-zip": (files["jpeg"] + archive.getvalue(), True),
        "zip-then-jpeg": (archive.getvalue() + files["jpeg"], False),
        "gif-then-zip": (files["gif"] + archive.getvalue(), True),
        "gif-that-is-a-script": (b"GIF89a=1/*" + files["gif"][10:] + b"*/;alert(1)", False),
        "bmp-that-is-a-script": (b"BM=1;/*" + files["bmp"][7:] + b"*/alert(1)", True),
        "jpeg-with-php-inside": (jpeg_with(jpeg_segment(0xE1, b"<?php system($_GET['c']); ?>")), True),
        "jpeg-then-a-program": (files["jpeg"] + b"\x7fELF" + bytes(1000), True),
        "svg-with-a-script": (b"<svg onload='alert(1)'/>", False),
        "svg-that-laughs-a-billion-times": (svg, False),
        "svg-that-reads-files": (
            b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
            False,
        ),
        "postscript-that-runs": (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(%pipe%id) (r) file\n",
            False,
        ),
        "imagemagick-script": (b"push graphic-context\nfill 'url(https://a.test/x\"|id\")'\n", False),
        "shell-script": (b"#!/bin/sh\nid\n", False),
        "heic": (b"\0\0\0\x18ftypheic" + bytes(99), False),
        "video": (b"\0\0\0\x18ftypmp42" + bytes(99), False),
        "sound": (b"RIFF" + struct.pack("<I", 99) + b"WAVEfmt " + bytes(99), False),
        "gzip": (b"\x1f\x8b\x08" + bytes(99), False),
        "jpeg-compressed": (zlib.compress(files["jpeg"]), False),
        "text": (b"hello", False),
        "json": (b'{"image_url": "file:///etc/passwd"}', False),
    }


def other_formats() -> dict[str, bytes]:
    """Pictures in formats that Pillow reads and the service does not: their readers must not be reached."""
    picture = Image.new("RGB", (16, 16), (9, 99, 200))
    kinds = ("DDS", "EPS", "ICO", "PCX", "PDF", "SGI", "SPIDER", "TGA")
    modes = {"SPIDER": "F"}
    return {kind.lower(): saved(picture.convert(modes.get(kind, "RGB")), kind) for kind in kinds}
