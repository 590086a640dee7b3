"""What pictures hold while they wait: room for so many pixels, in the order of coming."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from PIL import Image

from mobile_multimodal.errors import ImageError
from serving.decoding import MAX_PIXELS, Decoder, Room


def picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


class Held:
    """Pixels that are held now, and the most that ever were."""

    def __init__(self) -> None:
        self.now = self.most = 0

    @asynccontextmanager
    async def count(self, pixels: int) -> AsyncIterator[None]:
        self.now += pixels
        self.most = max(self.most, self.now)
        yield
        self.now -= pixels


def test_no_more_is_held_than_there_is_room_for_and_nobody_is_overtaken() -> None:
    held, order = Held(), list[int]()

    async def hold(room: Room, number: int, pixels: int) -> None:
        async with room.hold(pixels), held.count(pixels):
            order.append(number)
            await asyncio.sleep(0)

    async def run() -> None:
        room = Room(10)
        sizes = [4, 6, 10, 1, 9, 3, 3, 3, 10, 0]
        await asyncio.gather(*(hold(room, number, size) for number, size in enumerate(sizes)))
        async with room.hold(10):
            pass

    asyncio.run(run())
    assert held.most == 10
    assert order == list(range(10))


def test_who_gives_up_waiting_takes_no_room() -> None:
    async def run() -> None:
        room = Room(10)
        async with room.hold(8):
            waiting = asyncio.create_task(room.hold(5).__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            async with room.hold(2):
                pass
        async with room.hold(10):
            pass

    asyncio.run(run())


def test_large_pictures_are_decoded_one_by_one_and_small_ones_together() -> None:
    largest, small = picture(5000, 5000), picture(100, 100)

    async def most_held(content: bytes, pixels: int, copies: int) -> int:
        decoder, held = Decoder(), Held()

        async def use(is_read: bool) -> None:
            async with decoder.picture(content, is_read=is_read) as image, held.count(pixels):
                assert image.pixels.shape[0] * image.pixels.shape[1] == pixels
                await asyncio.sleep(0.1)

        await asyncio.gather(*(use(is_read=bool(number % 2)) for number in range(copies)))
        decoder.close()
        return held.most

    # One to be read, one to be written about: pages do not hold up captions.
    assert asyncio.run(most_held(largest, MAX_PIXELS, 6)) <= 2 * MAX_PIXELS
    assert asyncio.run(most_held(small, 10_000, 8)) > 2 * 10_000


def test_what_is_no_picture_takes_no_room() -> None:
    async def run() -> None:
        decoder = Decoder()
        for content in (b"", b"hello", picture(6000, 5000), b"\xff\xd8\xff" + bytes(100_000)):
            with pytest.raises(ImageError):
                async with decoder.picture(content, is_read=False):
                    pass
        async with decoder.picture(picture(5000, 5000), is_read=False) as image:
            assert image.pixels.shape == (5000, 5000, 3)
        decoder.close()

    asyncio.run(run())
