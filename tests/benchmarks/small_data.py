"""A small data set on disk, and a model that really looks at the pixels it is given."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobile_multimodal.image import LoadedImage
from mobile_multimodal.results import GenerationConfig, TaskRequest, TaskResult, TextRegion

COLORS = {
    "red": (220, 20, 20),
    "green": (20, 200, 20),
    "blue": (20, 20, 220),
    "yellow": (230, 220, 20),
}
CAPTIONS = {
    "red": "a red car on a street",
    "green": "two people sit in the green grass",
    "blue": "a boat on the blue sea",
    "yellow": "a yellow banana lies on a table",
    "grey": "a grey picture",
}


class ColorModel:
    """Names the colour of a picture's first pixel; reads text that was painted into its first row."""

    name = "color-model"
    recipe = "float32"
    sha256 = "0" * 64

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []

    def run(
        self,
        images: Sequence[LoadedImage],
        requests: Sequence[TaskRequest],
        generation: GenerationConfig | None = None,
    ) -> list[list[TaskResult]]:
        self.batches.append((len(images), len(requests)))
        return [[self._answer(image.pixels, request) for request in requests] for image in images]

    def _answer(self, pixels: np.ndarray[Any, np.dtype[np.uint8]], request: TaskRequest) -> TaskResult:
        if request.task == "ocr":
            regions = painted_text(pixels)
            text = "\n".join(region.text for region in regions)
            return TaskResult("ocr", text, 0.9, regions=regions)
        first = pixels[0, 0].astype(int)
        distances = {name: int(abs(first - color).sum()) for name, color in COLORS.items()}
        color = min(distances, key=lambda name: distances[name])
        if distances[color] > 60:
            color = "grey"
        if request.task == "caption":
            return TaskResult("caption", CAPTIONS[color].capitalize() + ".", 0.5)
        assert request.question is not None
        if request.question.startswith("How many"):
            return TaskResult("vqa", "2", 0.5, question=request.question)
        return TaskResult("vqa", color, 0.5, question=request.question)


def paint_text(regions: list[tuple[list[int], str]], size: tuple[int, int]) -> bytes:
    """A picture that carries its text: JSON bytes, length first, in the pixels."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    payload = json.dumps(regions).encode()
    payload = len(payload).to_bytes(4, "big") + payload
    pixels.reshape(-1)[: len(payload)] = np.frombuffer(payload, np.uint8)
    return png(pixels)


def painted_text(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[TextRegion, ...]:
    stream = pixels.tobytes()
    regions = json.loads(stream[4 : 4 + int.from_bytes(stream[:4], "big")])
    return tuple(
        TextRegion(text, ((q[0], q[1]), (q[2], q[3]), (q[4], q[5]), (q[6], q[7])), 0.9) for q, text in regions
    )


def png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def plain(color: str) -> bytes:
    return png(np.full((8, 8, 3), COLORS[color], np.uint8))


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def quad(left: int, top: int, right: int, bottom: int) -> list[int]:
    return [left, top, right, top, right, bottom, left, bottom]


CAPTION_ROWS = [
    {"image": "coco/1.png", "captions": ["A red car.", "A car on a street."], "source": "coco:x"},
    {"image": "coco/2.png", "captions": ["People sit in the grass."], "source": "coco:y"},
    {"image": "coco/3.png", "captions": ["A dog runs.", "The dog is running fast."], "source": "coco:x"},
    {"image": "flickr8k/1.png", "captions": ["A boat on the sea.", "A blue boat."], "source": "flickr8k:z"},
    {"image": "flickr8k/2.png", "captions": ["A yellow banana on a table."], "source": "flickr8k:z"},
]
IMAGE_COLORS = ["red", "green", "red", "blue", "yellow"]


QUESTION_ROWS: list[dict[str, Any]] = [
    {
        "image": "coco/1.png",
        "question": "What color is the car?",
        "answer": "red",
        "answers": ["red"] * 7 + ["dark red"] * 3,
        "type": "other",
        "source": "VQA v2 subset",
    },
    {
        "image": "coco/1.png",
        "question": "How many cars?",
        "answer": "1",
        "answers": ["1"] * 8 + ["2", "two"],
        "type": "number",
        "source": "VQA v2 subset",
    },
    {
        "image": "coco/2.png",
        "question": "What color is it?",
        "answer": "Green",
        "answers": [],
        "type": "other",
        "source": "VQA v2 subset",
    },
    {
        "image": "coco/3.png",
        "question": "What is the color of the car?",
        "answer": "red",
        "type": "color",
        "source": "COCO-QA",
    },
    {
        "image": "flickr8k/1.png",
        "question": "What is the color of the sea?",
        "answer": "blue",
        "type": "color",
        "source": "COCO-QA",
    },
    {
        "image": "flickr8k/2.png",
        "question": "How many bananas?",
        "answer": "two",
        "type": "number",
        "source": "COCO-QA",
    },
]


def write_photos(folder: Path) -> None:
    """Five photos: three in one tar file, one in another, one as a plain file."""
    files = {str(row["image"]): plain(color) for row, color in zip(CAPTION_ROWS, IMAGE_COLORS, strict=True)}
    (folder / "flickr8k").mkdir()
    (folder / "flickr8k/2.png").write_bytes(files.pop("flickr8k/2.png"))
    write_tar(folder / "b.tar", {"flickr8k/1.png": files.pop("flickr8k/1.png")})
    write_tar(folder / "a.tar", {f"./{name}": content for name, content in files.items()})
