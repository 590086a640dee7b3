"""From a path, bytes, a Pillow picture or an array to a checked RGB array."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, WebPImagePlugin, features

from mobile_multimodal.errors import ImageError

__all__ = [
    "FORMATS",
    "IMAGE_SUFFIXES",
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "ImageInput",
    "LoadedImage",
    "load_image",
]

ImageInput = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

# Pillow warns above this number of pixels and refuses above twice as many: one limit for both.
MAX_PIXELS = 89_478_485
MAX_FILE_BYTES = 256 * 2**20

# Imported by name, for Pillow's own search imports all of its forty formats (60 ms) to find them.
_REGISTERED_ON_IMPORT = (TiffImagePlugin, WebPImagePlugin)
_HAS_AVIF = features.check("avif")
if _HAS_AVIF:
    from PIL import AvifImagePlugin  # noqa: F401

# The JPEG reader reads MPO too (photos of some phones); Pillow has no reader of that name.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", *(["AVIF"] if _HAS_AVIF else []))
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
    *([".avif"] if _HAS_AVIF else []),
)

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
_FOREIGN = (
    (re.compile(rb"^.{4}ftyp(heic|heix|hevc|mif1|msf1)", re.DOTALL), "a HEIC picture"),
    (re.compile(rb"^\s*(<!doctype html|<html)", re.IGNORECASE), "an HTML page"),
    (re.compile(rb"^\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg", re.IGNORECASE | re.DOTALL), "an SVG drawing"),
    (re.compile(rb"^%PDF-"), "a PDF document"),
    (re.compile(rb"^8BPS"), "a Photoshop document"),
)
_SUPPORTED = f"give one of {', '.join(FORMATS)}"
_EXPORT_AGAIN = "copy or export the picture again"

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What Pillow's readers raise on damaged files, as seen by feeding them damaged files.
_DAMAGE = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, AssertionError, RuntimeError, MemoryError, struct.error, zlib.error),
    UserWarning,  # where the program turns warnings into errors
)


@dataclass(frozen=True)
class LoadedImage:
    """A picture as the model takes it.

    ``pixels`` is uint8 [height, width, 3], RGB, upright; ``source`` is its path or where it came from;
    ``notes`` says, a phrase each, what the reader should know of how it was read ("first frame of an
    animation").
    """

    pixels: NDArray[np.uint8]
    source: str
    notes: tuple[str, ...] = ()


def load_image(image: ImageInput, *, source: str | None = None, max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """Read a picture: a path, the bytes of a file, a Pillow picture, or a uint8 array [height, width, 3].

    The picture is turned upright (EXIF), laid on white where it is transparent, and scaled, not
    clipped, to 8 bits where it has more; of an animation the first frame is taken.

    Args:
        image: the picture.
        source: its name in errors and results, where it is not a path.
        max_pixels: the most that are decoded; never more than ``MAX_PIXELS``.

    Raises:
        ImageError: not a picture, damaged, empty, too large, or a file that cannot be read.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image, source or "<array>", max_pixels)
    if isinstance(image, Image.Image):
        name = source or getattr(image, "filename", "") or "<picture>"
        return _from_pillow(image, str(name), max_pixels)
    if isinstance(image, bytes | bytearray | memoryview):
        return _from_bytes(bytes(image), source or "<bytes>", max_pixels)
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        return _from_path(path, source or path, max_pixels)
    raise ImageError(
        f"{source or 'the picture'} is a {type(image).__name__}",
        remedy="give a path, bytes, a Pillow picture, or a uint8 array [height, width, 3]",
    )


def _from_array(array: NDArray[Any], source: str, max_pixels: int) -> LoadedImage:
    other_layouts = "give uint8 RGB [height, width, 3]"
    if array.ndim != 3 or array.shape[2] != 3:
        raise ImageError(f"{source} has shape {array.shape}, not [height, width, 3]", remedy=other_layouts)
    if array.dtype != np.uint8:
        raise ImageError(f"{source} has dtype {array.dtype}, not uint8", remedy=other_layouts)
    if not array.size:
        raise ImageError(f"{source} of shape {array.shape} is empty", remedy=other_layouts)
    _check_pixels(array.shape[1], array.shape[0], source, max_pixels)
    return LoadedImage(np.ascontiguousarray(array), source)


def _from_path(path: str, source: str, max_pixels: int) -> LoadedImage:
    if not path:
        raise ImageError("the path of the picture is empty", remedy="give the path of a picture")
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                # A pipe or a device can be read once only and may never end.
                data = file.read(MAX_FILE_BYTES + 1)
                return _from_bytes(data, source, max_pixels)
            return _from_file(file, source, max_pixels)
    except FileNotFoundError as exc:
        raise ImageError(f"{source} does not exist", remedy="check the path") from exc
    except IsADirectoryError as exc:
        raise ImageError(f"{source} is a directory", remedy="give the path of a picture") from exc
    except PermissionError as exc:
        raise ImageError(f"{source} may not be read", remedy="check its permissions") from exc
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise ImageError(f"{source} cannot be read: {reason}", remedy="check the path") from exc


def _from_bytes(data: bytes, source: str, max_pixels: int) -> LoadedImage:
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{source} has more than {MAX_FILE_BYTES // 2**20} MiB", remedy="save it smaller")
    return _from_file(io.BytesIO(data), source, max_pixels)


def _from_file(file: Any, source: str, max_pixels: int) -> LoadedImage:
    head = file.read(512)
    if not head:
        raise ImageError(f"{source} is empty (0 bytes)", remedy=_EXPORT_AGAIN)
    file.seek(0)
    with _damage_explained(head, source), Image.open(file, formats=list(FORMATS)) as picture:
        return _from_pillow(picture, source, max_pixels)


@contextmanager
def _damage_explained(head: bytes, source: str) -> Iterator[None]:
    """Turn what Pillow raises into one ImageError that says what the file seems to be."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        count = re.search(r"\d+", str(exc))
        pixels = f"{int(count[0]):,} pixels" if count else "too many pixels"
        raise _too_large(source, pixels) from exc
    except PIL.UnidentifiedImageError as exc:
        foreign = next((name for pattern, name in _FOREIGN if pattern.search(head)), None)
        known = next((name for signature, name in _SIGNATURES if head.startswith(signature)), None)
        if foreign is None and known is not None:
            message = f"{source} starts like a {known} file but cannot be read as one"
            raise ImageError(message, remedy=_EXPORT_AGAIN) from exc
        raise ImageError(f"{source} is {foreign or 'not an image'}", remedy=_SUPPORTED) from exc
    except _DAMAGE as exc:
        raise _damaged(source, exc) from exc


def _damaged(source: str, exc: Exception) -> ImageError:
    reason = (str(exc) or type(exc).__name__).splitlines()[0]
    damage = "is truncated" if "truncated" in reason.lower() else f"is damaged: {reason}"
    return ImageError(f"{source} {damage}", remedy=_EXPORT_AGAIN)


def _from_pillow(picture: Image.Image, source: str, max_pixels: int) -> LoadedImage:
    width, height = picture.size
    if not width or not height:
        raise ImageError(f"{source} is empty ({width}x{height} pixels)", remedy="give a picture with pixels")
    _check_pixels(width, height, source, max_pixels)
    if picture.mode == "LAB":
        raise ImageError(f"{source} is in the LAB colour mode", remedy="save it as RGB")
    try:
        notes = _animation_note(picture)
        picture.load()
        turn = _UPRIGHT.get(_orientation(picture))
        upright = picture if turn is None else picture.transpose(turn)
        pixels = _to_rgb(upright, notes, is_16_bit=picture.format in ("PNG", "PPM"))
    except _DAMAGE as exc:
        raise _damaged(source, exc) from exc
    return LoadedImage(pixels, source, tuple(notes))


def _animation_note(picture: Image.Image) -> list[str]:
    # A phone's MPO holds the photo and then its depth or gain map: no animation.
    if not getattr(picture, "is_animated", False) or picture.format == "MPO":
        return []
    if picture.tell():
        return [f"frame {picture.tell() + 1} of an animation"]
    return ["first page of several" if picture.format == "TIFF" else "first frame of an animation"]


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except _DAMAGE:  # the photo is good even where its EXIF is not
        return 1


def _to_rgb(picture: Image.Image, notes: list[str], *, is_16_bit: bool) -> NDArray[np.uint8]:
    if picture.mode.startswith("I") or picture.mode == "F":
        grey = np.asarray(picture)
        scaled = _scale_16_bit if is_16_bit or grey.dtype.itemsize == 2 else _scale_by_range
        return np.repeat(scaled(grey, notes)[:, :, None], 3, axis=2)  # [H, W, 3]
    if picture.has_transparency_data:
        picture = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
        opacity = np.asarray(picture)[..., 3]
        if opacity.min() < 255:
            notes.append("laid on white where it is transparent")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.asarray(picture.convert("RGB"))


def _scale_16_bit(grey: NDArray[Any], notes: list[str]) -> NDArray[np.uint8]:
    notes.append("16 bits scaled to 8")
    return ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _scale_by_range(grey: NDArray[Any], notes: list[str]) -> NDArray[np.uint8]:
    """Scale numbers that have no agreed white: 0..1 (floats), 0..255, 0..65535, else their own range."""
    values = np.nan_to_num(grey.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    whites = (1.0, 255.0, 65535.0) if grey.dtype.kind == "f" else (255.0, 65535.0)
    if low >= 0 and high <= 65535:
        low, high = 0.0, next(white for white in whites if high <= white)
    notes.append(f"brightness {low:g} to {high:g} scaled to 8 bits")
    return np.round((values - low) * (255.0 / ((high - low) or 1.0))).astype(np.uint8)


def _check_pixels(width: int, height: int, source: str, limit: int) -> None:
    if width * height > min(limit, MAX_PIXELS):
        raise _too_large(source, f"{width:,}x{height:,} pixels", min(limit, MAX_PIXELS))


def _too_large(source: str, size: str, limit: int = MAX_PIXELS) -> ImageError:
    return ImageError(
        f"{source} has {size}, more than the limit of {limit:,}", remedy="save it smaller or crop it"
    )
