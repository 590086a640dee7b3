"""Pictures of strangers → pixels: no more work than their pixels are worth, and no more at once than fits."""

from __future__ import annotations

import asyncio
import io
import re
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from PIL import Image

from mobile_multimodal.errors import ImageError
from mobile_multimodal.image import FORMATS, LoadedImage, load_image
from serving.metrics import STAGE_SECONDS

__all__ = ["MAX_PIXELS", "Decoder", "Room", "check_structure"]

MAX_PIXELS = 25_000_000
"""The most that a picture may have here: 75 MB when decoded, and up to 550 MB while it is."""
DECODERS = 2
SMALL_BYTES = 32_768
"""The head of so few bytes is read in less time than a thread takes to be asked."""
MOST_SCANS = 100
MOST_SEGMENTS = 5_000
MOST_PARTS = 65_536
MOST_JUNK = 65_536
MOST_COMMENTS = 1_000

_SOURCE = "the picture"
# Zeros after 0xFF are data, and restarts (0xD0 to 0xD7) belong to the scan that they interrupt.
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
_JPEG_BARE = (0x01, 0xD8)
_TIFF_PARTS = (273, 324)  # where the strips are, or the tiles
_BIG_TIFF = 43


class Room:
    """Pixels that may be held at once; who does not fit waits, in the order of coming.

    Nothing may be larger than the whole.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def hold(self, pixels: int) -> AsyncIterator[None]:
        """Wait for so many pixels, and have them until the end of the block."""
        async with self._turn:
            while pixels > self._free:
                self._freed.clear()
                await self._freed.wait()
            self._free -= pixels
        try:
            yield
        finally:
            self._free += pixels
            self._freed.set()


class Decoder:
    """Decodes pictures in threads, and bounds what all of them hold: a few kB can be 25 million pixels.

    Pictures to be read have room of their own, so that captions do not wait for pages.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(DECODERS, thread_name_prefix="mmllm-decode")
        self._read, self._write, self._decoding = Room(MAX_PIXELS), Room(MAX_PIXELS), Room(MAX_PIXELS)

    @asynccontextmanager
    async def picture(self, content: bytes, *, is_read: bool) -> AsyncIterator[LoadedImage]:
        """The picture, which is let go at the end of the block.

        Raises:
            ImageError: the picture cannot be used.
        """
        run = asyncio.get_running_loop().run_in_executor
        is_small = len(content) <= SMALL_BYTES
        pixels = _count_pixels(content) if is_small else await run(self._threads, _count_pixels, content)
        async with (self._read if is_read else self._write).hold(pixels):
            async with self._decoding.hold(pixels):
                image = await run(self._threads, _decoded, content)
            yield image

    def close(self) -> None:
        """Take no more pictures."""
        self._threads.shutdown(wait=False)


def check_structure(content: bytes) -> None:
    """Refuse a file that is far more work than its pixels are worth.

    A JPEG goes over its whole picture once a scan, and ten bytes are a scan: 0.35 MB took 36 s. A TIFF of
    10 MB can have 10 million strips, which are 3 GB of Python's tuples. Every comment among the numbers of
    a plain PPM moves all that is behind it: 10 MB took 45 s.

    Raises:
        ImageError: more than 100 scans, 5,000 segments, 65,536 bytes between two of them, 65,536 strips or
            tiles, or 1,000 comments.
    """
    if content.startswith(b"\xff\xd8\xff"):
        _check_jpeg(content)
    elif content[:2] in (b"II", b"MM") and _tiff_parts(content) > MOST_PARTS:
        raise _too_many(f"{MOST_PARTS:,} strips or tiles")
    elif content[:2] in (b"P1", b"P2", b"P3") and content.count(b"#") > MOST_COMMENTS:
        raise _too_many(f"{MOST_COMMENTS:,} comments")


def _too_many(what: str) -> ImageError:
    return ImageError(f"{_SOURCE} has more than {what}", remedy="save it again with usual settings")


def _check_jpeg(content: bytes) -> None:
    """Walk through the first picture of the file: to its first scan, or to the last where there are many."""
    most_scans = content.count(b"\xff\xda")  # some may be data of other segments
    scans = segments = 0
    at = 2
    while not scans or most_scans > MOST_SCANS:
        found = _JPEG_MARKER.search(content, at)
        junk = (len(content) if found is None else found.start()) - at
        if not scans and junk > MOST_JUNK:
            raise _too_many(f"{MOST_JUNK:,} bytes between two segments")
        if found is None or found[1][0] == _JPEG_END:
            return
        at = found.end()
        segments += 1
        if segments > MOST_SEGMENTS:
            raise _too_many(f"{MOST_SEGMENTS:,} segments")
        if found[1][0] == _JPEG_SCAN:
            scans += 1
            if scans > MOST_SCANS:
                raise _too_many(f"{MOST_SCANS} scans")
        if found[1][0] not in _JPEG_BARE:
            at += int.from_bytes(content[at : at + 2], "big")


def _tiff_parts(content: bytes) -> int:
    """How many strips or tiles the first directory of a TIFF file tells of."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(content[at : at + size], "little" if content[:2] == b"II" else "big")

    is_big = content[2] == _BIG_TIFF if len(content) > 2 else False
    start, size, head, entry = (8, 8, 8, 20) if is_big else (4, 4, 2, 12)
    at = number(start, size)
    parts = 0
    for place in range(at + head, min(at + head + entry * number(at, head), len(content)), entry):
        if number(place, 2) in _TIFF_PARTS:
            parts = max(parts, number(place + 4, size))
    return parts


def _count_pixels(content: bytes) -> int:
    """What a picture will hold when it is decoded; 0 where it is refused before that."""
    check_structure(content)
    try:
        with Image.open(io.BytesIO(content), formats=list(FORMATS)) as picture:
            pixels = picture.width * picture.height
    except Exception:  # noqa: BLE001 - load_image says what is wrong
        return 0
    return pixels if pixels <= MAX_PIXELS else 0


def _decoded(content: bytes) -> LoadedImage:
    began = time.perf_counter()
    image = load_image(content, source=_SOURCE, max_pixels=MAX_PIXELS)
    STAGE_SECONDS.labels("decode_image").observe(time.perf_counter() - began)
    return image
