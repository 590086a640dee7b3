"""Reading pictures: what is read rightly, and what is refused with one clear line."""

from __future__ import annotations

import io
import os
import random
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobile_multimodal.errors import ImageError
from mobile_multimodal.image import FORMATS, MAX_PIXELS, LoadedImage, load_image

ORIENTATION = 274
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters(width: int = 64, height: int = 32) -> Image.Image:
    """Red, green, blue and white quarters: shows every turn and every swap of channels."""
    picture = Image.new("RGB", (width, height), WHITE)
    picture.paste(RED, (0, 0, width // 2, height // 2))
    picture.paste(GREEN, (width // 2, 0, width, height // 2))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    return picture


def encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def corners(loaded: LoadedImage) -> list[tuple[int, ...]]:
    height, width = loaded.pixels.shape[:2]
    spots = [(height // 4, width // 4), (height // 4, 3 * width // 4)]
    spots += [(3 * height // 4, width // 4), (3 * height // 4, 3 * width // 4)]
    return [tuple(int(value) for value in loaded.pixels[spot]) for spot in spots]


def is_close(found: list[tuple[int, ...]], wanted: list[tuple[int, ...]], tolerance: int = 12) -> bool:
    return bool(np.abs(np.array(found) - np.array(wanted)).max() <= tolerance)


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header promises this size and whose pixels are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(kind: str) -> None:
    options = {"quality": 95, "subsampling": 0} if kind in ("JPEG", "AVIF") else {}
    loaded = load_image(encode(quarters(), kind, **({} if kind == "AVIF" else options)), source="photo")
    assert loaded.pixels.shape == (32, 64, 3)
    assert loaded.pixels.dtype == np.uint8
    assert loaded.source == "photo"
    assert loaded.notes == ()
    assert is_close(corners(loaded), [RED, GREEN, BLUE, WHITE], 40 if kind in ("WEBP", "AVIF") else 12)


def test_a_path_bytes_a_picture_and_an_array_agree(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    quarters().save(path)
    loaded = [load_image(path), load_image(str(path)), load_image(path.read_bytes())]
    loaded += [load_image(quarters()), load_image(np.asarray(quarters()))]
    for one in loaded:
        np.testing.assert_array_equal(one.pixels, np.asarray(quarters()))
    assert [one.source for one in loaded] == [str(path), str(path), "<bytes>", "<picture>", "<array>"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = {  # how a camera held that way stores the upright quarters
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    picture = quarters() if stored is None else quarters().transpose(stored)
    loaded = load_image(encode(picture, kind, exif=exif))
    assert loaded.pixels.shape == (32, 64, 3)
    assert is_close(corners(loaded), [RED, GREEN, BLUE, WHITE], 40)


def test_damaged_exif_does_not_lose_the_photo() -> None:
    data = encode(quarters(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load_image(data).pixels.shape == (32, 64, 3)


def test_cmyk_is_read_as_it_looks() -> None:
    # Pillow writes the Adobe marker and, as Adobe does, inverted values.
    data = encode(quarters().convert("CMYK"), "JPEG", quality=95, subsampling=0)
    assert b"Adobe" in data
    assert is_close(corners(load_image(data)), [RED, GREEN, BLUE, WHITE])
    assert is_close(
        corners(load_image(encode(quarters().convert("CMYK"), "TIFF"))), [RED, GREEN, BLUE, WHITE]
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_not_clipped(kind: str) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, axis=0)
    loaded = load_image(encode(Image.fromarray(ramp), kind))
    np.testing.assert_array_equal(loaded.pixels[0, :, 0], np.arange(256))
    np.testing.assert_array_equal(loaded.pixels[..., 0], loaded.pixels[..., 2])
    assert loaded.notes == ("16 bits scaled to 8",)


def test_a_dark_16_bit_picture_stays_dark() -> None:
    dark = np.full((4, 4), 200, dtype=np.uint16)
    for kind in ("PNG", "PPM", "TIFF"):
        assert load_image(encode(Image.fromarray(dark), kind)).pixels.max() == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]]), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]]), [0, 100, 255]),
        (np.array([[0.0, 32767.5, 65535.0]]), [0, 128, 255]),
        (np.array([[-1.0, 0.0, 1.0]]), [0, 128, 255]),
        (np.array([[70000.0, 70000.0, 70000.0]]), [0, 0, 0]),
        (np.array([[np.nan, np.inf, 1.0]]), [0, 0, 255]),
    ],
)
def test_float_pictures_are_scaled_by_their_range(values: Any, expected: list[int]) -> None:
    loaded = load_image(Image.fromarray(values.astype(np.float32)))
    np.testing.assert_allclose(loaded.pixels[0, :, 1], expected, atol=1)
    assert "scaled to 8 bits" in loaded.notes[0]


def test_32_bit_integers_are_scaled_by_their_range() -> None:
    for low, high in ((0, 255), (0, 65535), (-1000, 100000)):
        values = np.linspace(low, high, 6).astype(np.int32)[None]
        loaded = load_image(Image.fromarray(values))
        np.testing.assert_allclose(loaded.pixels[0, :, 0], np.linspace(0, 255, 6), atol=1)


def test_grey_and_black_and_white() -> None:
    for mode in ("L", "1"):
        loaded = load_image(encode(Image.new(mode, (5, 3), 1 if mode == "1" else 200), "PNG"))
        assert loaded.pixels.shape == (3, 5, 3)
        assert set(loaded.pixels.ravel().tolist()) == {255 if mode == "1" else 200}


def transparent_picture(mode: str) -> Image.Image:
    """The left half transparent over black, the right half a half-transparent or solid black."""
    alpha = Image.new("L", (20, 10), 0)
    alpha.paste(128, (10, 0, 20, 10))
    if mode == "P":
        palette = Image.new("P", (20, 10), 0)
        palette.putpalette([10, 20, 30, 0, 0, 0])
        palette.paste(1, (10, 0, 20, 10))
        palette.info["transparency"] = 0
        return palette
    base = Image.new("L" if mode == "LA" else "RGB", (20, 10), 0)
    base.putalpha(alpha)
    return base


@pytest.mark.parametrize(("mode", "right"), [("RGBA", 127), ("LA", 127), ("P", 0)])
def test_transparency_is_laid_on_white(mode: str, right: int) -> None:
    loaded = load_image(encode(transparent_picture(mode), "PNG"))
    assert loaded.pixels[5, 5].tolist() == [255, 255, 255]
    assert np.abs(loaded.pixels[5, 15].astype(int) - right).max() <= 1
    assert loaded.notes == ("laid on white where it is transparent",)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    later = [Image.new("RGB", (64, 32), colour) for colour in (BLUE, GREEN)]
    loaded = load_image(encode(quarters(), kind, save_all=True, append_images=later))
    assert is_close(corners(loaded), [RED, GREEN, BLUE, WHITE], 40)
    assert loaded.notes == ("first frame of an animation",)


def test_of_several_pages_the_first_is_taken() -> None:
    loaded = load_image(encode(quarters(), "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))]))
    assert loaded.pixels.shape == (32, 64, 3)
    assert loaded.notes == ("first page of several",)


def test_the_photo_of_an_mpo_is_taken_without_a_note() -> None:
    data = encode(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert load_image(data).pixels.shape == (32, 64, 3)
    assert load_image(data).notes == ()


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1), (3000, 2)])
def test_tiny_and_very_long_pictures(size: tuple[int, int]) -> None:
    assert load_image(encode(Image.new("RGB", size, RED), "PNG")).pixels.shape == (size[1], size[0], 3)


def refusal(image: Any, **options: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ImageError) as caught:
            load_image(image, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.remedy
    return message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b"just words, no picture at all", "is not an image"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is an HTML page"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing"),
        (b"%PDF-1.7\n", "is a PDF document"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC picture"),
        (b"\xff\xd8\xff\xe0" + bytes(range(200)), "starts like a JPEG"),
        (b"\x89PNG\r\n\x1a\n" + b"garbage" * 30, "is truncated"),
        (b"\0" * 5000, "is not an image"),
    ],
)
def test_what_is_no_photo_is_named(data: bytes, words: str) -> None:
    message = refusal(data, source="holiday.jpg")
    assert words in message
    assert message.startswith("holiday.jpg ")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_refused_wherever_it_ends(kind: str) -> None:
    data = encode(quarters(200, 100), kind)
    for share in (0.02, 0.3, 0.6, 0.9):
        refusal(data[: max(4, int(len(data) * share))])


def test_random_damage_gives_a_picture_or_an_image_error() -> None:
    random_source = random.Random(7)
    samples = [encode(quarters(), kind) for kind in FORMATS]
    refusals: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(800):
            data = bytearray(random_source.choice(samples))
            for _ in range(random_source.randrange(1, 12)):
                data[random_source.randrange(min(len(data), 400))] = random_source.randrange(256)
            try:
                assert load_image(bytes(data)).pixels.ndim == 3
            except ImageError as error:
                refusals.append(str(error))
    assert len(refusals) > 100
    assert not [line for line in refusals if "\n" in line]


@pytest.mark.parametrize("side", [50_000, 12_000, 9_460])
def test_the_pixel_limit_is_checked_before_decoding(side: int) -> None:
    message = refusal(png_header(side, side))
    assert f"{MAX_PIXELS:,}" in message
    assert f"{side:,}x{side:,}" in message or f"{side * side:,}" in message


def test_the_pixel_limit_holds_where_pillow_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert "50,000x50,000 pixels" in refusal(png_header(50_000, 50_000))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((10, 10), np.uint8), "shape (10, 10)"),
        (np.zeros((10, 10, 4), np.uint8), "shape (10, 10, 4)"),
        (np.zeros((3, 10, 10), np.uint8), "shape (3, 10, 10)"),
        (np.zeros((1, 10, 10, 3), np.uint8), "shape (1, 10, 10, 3)"),
        (np.zeros((10, 10, 3), np.float32), "dtype float32"),
        (np.zeros((0, 10, 3), np.uint8), "is empty"),
        (np.zeros((10, 0, 3), np.uint8), "is empty"),
        (np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (50_000, 50_000, 3)), "50,000x50,000"),
    ],
)
def test_arrays_of_another_layout_are_refused(array: Any, words: str) -> None:
    assert words in refusal(array)


def test_an_array_with_strides_is_read() -> None:
    array = np.asarray(quarters())[::-1, ::2]
    loaded = load_image(array)
    assert loaded.pixels.flags.c_contiguous
    np.testing.assert_array_equal(loaded.pixels, array)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "missing.jpg")
    assert "is a directory" in refusal(tmp_path)
    assert "path of the picture is empty" in refusal("")
    assert "cannot be read" in refusal("a\0b.jpg")
    assert "cannot be read" in refusal("x" * 5000)
    if os.geteuid() != 0:  # permissions do not stop root
        locked = tmp_path / "locked.png"
        quarters().save(locked)
        locked.chmod(0)
        assert "may not be read" in refusal(locked)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(encode(quarters(), "PNG"))
    try:
        assert load_image(f"/dev/fd/{reading}").pixels.shape == (32, 64, 3)
    finally:
        os.close(reading)


def test_other_values_are_refused() -> None:
    assert "is a NoneType" in refusal(None)
    assert "is a list" in refusal([[0, 0, 0]])
    assert "is empty (0x4 pixels)" in refusal(Image.new("RGB", (0, 4)))
    assert "LAB" in refusal(Image.new("LAB", (4, 4)))
    closed = Image.open(io.BytesIO(encode(quarters(), "PNG")))
    closed.close()
    assert "is damaged" in refusal(closed)


def test_a_lower_limit_of_pixels_is_held_before_they_are_decoded() -> None:
    truncated = encode(quarters(50, 40), "PNG")[:60]
    with pytest.raises(ImageError, match=r"50x40 pixels, more than the limit of 1,999"):
        load_image(truncated, source="small.png", max_pixels=1999)
    assert load_image(np.zeros((40, 50, 3), np.uint8), max_pixels=2000).pixels.shape == (40, 50, 3)
