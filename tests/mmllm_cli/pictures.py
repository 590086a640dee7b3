"""Odd pictures that must be read, and bad files that must be refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def scene(width: int = 160, height: int = 120) -> Image.Image:
    """A meadow under a sky with a sun, so that a captioner has something to say."""
    picture = Image.new("RGB", (width, height), (110, 170, 240))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, height * 2 // 3, width, height), fill=(60, 150, 50))
    draw.ellipse((width // 10, height // 10, width // 4, height // 3), fill=(250, 220, 60))
    return picture


def write_odd_pictures(folder: Path) -> dict[str, Path]:
    """Pictures of every odd kind, by what is odd; each is whole."""
    picture = scene()
    rotated = Image.Exif()
    rotated[274] = 6
    grey16 = (np.asarray(picture.convert("L")).astype(np.uint16) << 8) + 7
    see_through = picture.convert("P", palette=Image.Palette.ADAPTIVE)
    see_through.info["transparency"] = 0
    paths = {
        name: folder / f"{name}.{suffix}"
        for name, suffix in {
            "plain": "jpg",
            "cmyk": "jpg",
            "16-bit": "png",
            "grey": "jpg",
            "palette-alpha": "png",
            "rotated": "jpg",
            "animated": "gif",
            "one-pixel": "png",
            "very-long": "png",
            "very-tall": "png",
            "dürer's\nhare": "webp",
        }.items()
    }
    picture.save(paths["plain"], quality=92)
    picture.convert("CMYK").save(paths["cmyk"])
    Image.fromarray(grey16).save(paths["16-bit"])
    picture.convert("L").save(paths["grey"])
    see_through.save(paths["palette-alpha"])
    picture.save(paths["rotated"], exif=rotated)
    picture.save(paths["animated"], save_all=True, append_images=[picture.rotate(180), picture.rotate(90)])
    Image.new("RGB", (1, 1), "red").save(paths["one-pixel"])
    picture.resize((9000, 3)).save(paths["very-long"])
    picture.resize((2, 12000)).save(paths["very-tall"])
    picture.save(paths["dürer's\nhare"])
    return paths


def write_bad_pictures(folder: Path) -> dict[str, Path]:
    """Files and directories that are no pictures, by what is wrong with them."""
    picture = scene()
    paths = {
        "words": folder / "words.jpg",
        "page": folder / "page.png",
        "zero-bytes": folder / "zero.jpg",
        "truncated-jpeg": folder / "truncated.jpg",
        "truncated-png": folder / "truncated.png",
        "garbage-inside": folder / "garbage.png",
        "damaged-tiff": folder / "damaged.tif",
        "too-many-pixels": folder / "huge.png",
        "no-pictures": folder / "no-pictures",
        "missing": folder / "missing.jpg",
    }
    paths["words"].write_bytes(b"these are words and not a picture\n" * 20)
    paths["page"].write_bytes(b"<!doctype html><title>404</title>")
    paths["zero-bytes"].touch()
    for name in ("truncated-jpeg", "truncated-png"):
        picture.save(paths[name])
        data = paths[name].read_bytes()
        paths[name].write_bytes(data[: len(data) // 2])
    picture.save(paths["garbage-inside"])
    data = paths["garbage-inside"].read_bytes()
    paths["garbage-inside"].write_bytes(data[:60] + b"\xaa" * 30 + data[90:])
    # libtiff writes its complaints to file descriptor 2 by itself.
    picture.save(paths["damaged-tiff"], compression="tiff_lzw")
    data = paths["damaged-tiff"].read_bytes()
    paths["damaged-tiff"].write_bytes(data[:8] + b"\xff" * 192 + data[200:])
    paths["too-many-pixels"].write_bytes(png_header(50_000, 50_000))
    paths["no-pictures"].mkdir()
    (paths["no-pictures"] / "notes.txt").write_text("nothing to see")
    return paths


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels; it needs no memory to be refused."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
