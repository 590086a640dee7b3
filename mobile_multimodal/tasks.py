"""Caption, read and answer: encode each picture once, write all its texts, clean them up.

A caption that ends with "that begins with" hands over to the text reader: the decoder has seen that the
picture is a page, but cannot read it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mobile_multimodal.backends import Backend
from mobile_multimodal.confidence import calibrate
from mobile_multimodal.config import ModelConfig
from mobile_multimodal.errors import UsageError
from mobile_multimodal.generation import ImageFeatures, generate
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.preprocessing import preprocess
from mobile_multimodal.prompts import build_prompts, task_tokens
from mobile_multimodal.results import GenerationConfig, TaskRequest, TaskResult
from mobile_multimodal.tokenizer import Tokenizer

__all__ = [
    "BEGINS",
    "Runtime",
    "display",
    "encode_images",
    "finish_caption",
    "quote_words",
    "read_image",
    "run_tasks",
    "write_texts",
]


BEGINS = " that begins with"
"""How the decoder ends the caption of a picture whose text is to be read."""
MAX_QUOTED_WORDS = 8
MAX_QUOTED_CHARACTERS = 60
QUOTED_LINES = 3


@dataclass(frozen=True)
class Runtime:
    """What the tasks need of a model; ``name_tokens`` gives the tokens of a class name by its index."""

    config: ModelConfig
    tokenizer: Tokenizer
    backend: Backend
    name_tokens: Callable[[int], Sequence[int]]


def display(text: str) -> str:
    """A caption as people write it: a capital first and a full stop."""
    return f"{text[:1].upper()}{text[1:]}." if text else text


def encode_images(runtime: Runtime, images: Sequence[LoadedImage]) -> tuple[ImageFeatures, dict[str, float]]:
    """Preprocess and encode a batch of pictures → features, and the milliseconds of both for the batch."""
    started = time.perf_counter()
    side = runtime.config.vision.image_size
    pixels = np.stack([preprocess(image.pixels, side) for image in images])  # [B, side, side, 3]
    ready = time.perf_counter()
    # Convolutions gain nothing from a batch on a CPU; one picture at a time keeps them in the cache.
    outputs = [
        runtime.backend.run("vision_encoder", {"pixel_values": pixels[i : i + 1]}) for i in range(len(pixels))
    ]
    features = ImageFeatures(
        np.concatenate([output["image_key"] for output in outputs], axis=1).astype(np.float32, copy=False),
        np.concatenate([output["image_value"] for output in outputs], axis=1).astype(np.float32, copy=False),
        np.concatenate([output["class_logits"] for output in outputs]).astype(np.float32, copy=False),
    )
    encoded = time.perf_counter()
    return features, {"preprocess": 1000 * (ready - started), "encode": 1000 * (encoded - ready)}


def write_texts(
    runtime: Runtime,
    images: Sequence[LoadedImage],
    features: ImageFeatures,
    requests: Sequence[TaskRequest],
    generation: GenerationConfig,
) -> list[TaskResult]:
    """A caption or an answer for every row of the batch, row by row another request if wanted.

    A row is a picture with its features and what is asked of it.
    """
    started = time.perf_counter()
    text = runtime.config.text
    tokens = [task_tokens(request, runtime.tokenizer, text) for request in requests]
    prompt = build_prompts(
        features.class_logits, tokens, runtime.name_tokens, runtime.tokenizer, runtime.config
    )
    generated = generate(runtime.backend, features, prompt, text, runtime.tokenizer, generation)
    spent = 1000 * (time.perf_counter() - started) / len(requests)
    results = [
        TaskResult(
            task=request.task,
            text=display(result.text) if request.task == "caption" else result.text,
            confidence=calibrate(result.confidence, runtime.config.calibration.get(request.task)),
            question=request.question,
            token_ids=result.token_ids,
            timings_ms={"generate": spent},
        )
        for request, result in zip(requests, generated, strict=True)
    ]
    return [finish_caption(runtime, *pair) for pair in zip(images, results, strict=True)]


def read_image(runtime: Runtime, image: LoadedImage) -> TaskResult:
    """The text in one picture; confidence is the mean over its characters, None without any.

    Raises:
        UsageError: the model has no text reader.
    """
    # OpenCV takes 0.14 s to import, and captions never need it.
    from mobile_multimodal.ocr import read_text
    from mobile_multimodal.ocr_formats import to_text

    if runtime.config.ocr is None:
        raise UsageError(f"model {runtime.config.name!r} cannot read text: it has no text detector")
    regions, timings = read_text(runtime.backend, image.pixels, runtime.config.ocr)
    lengths = [len(region.text) for region in regions]
    confidence = (
        float(np.average([region.confidence for region in regions], weights=lengths)) if regions else None
    )
    return TaskResult(
        task="ocr", text=to_text(regions), confidence=confidence, regions=tuple(regions), timings_ms=timings
    )


def quote_words(lines: Sequence[str]) -> str:
    """The first words of lines of text, at most 8 and 60 characters; a longer first word is cut."""
    words = " ".join(lines).replace('"', "'").split()[:MAX_QUOTED_WORDS]
    while len(words) > 1 and len(" ".join(words)) > MAX_QUOTED_CHARACTERS:
        words.pop()
    return " ".join(words)[:MAX_QUOTED_CHARACTERS]


def finish_caption(runtime: Runtime, image: LoadedImage, result: TaskResult) -> TaskResult:
    """The caption with the first words of the picture's text, where it asks for them; an answer as it is.

    Without a reader, or where nothing can be read, the caption ends before "that begins with".
    """
    caption = result.text.removesuffix(".")
    if result.task != "caption" or not caption.endswith(BEGINS):
        return result
    words, timings = "", dict(result.timings_ms)
    if runtime.config.ocr is not None:
        from mobile_multimodal.ocr import read_text

        regions, spent = read_text(runtime.backend, image.pixels, runtime.config.ocr, max_lines=QUOTED_LINES)
        words = quote_words([region.text for region in regions])
        timings.update(spent)
    text = f'{caption} "{words}".' if words else f"{caption.removesuffix(BEGINS)}."
    return replace(result, text=text, timings_ms=timings)


def run_tasks(
    runtime: Runtime,
    images: Sequence[LoadedImage],
    requests: Sequence[TaskRequest],
    generation: GenerationConfig,
) -> list[list[TaskResult]]:
    """Every request on every picture → results [image][request]; a picture is encoded at most once.

    ``timings_ms`` are of one picture: what a batch took together is divided among its pictures.
    """
    if not images:
        return []
    encoding: dict[str, float] = {}
    features: ImageFeatures | None = None
    if any(request.task != "ocr" for request in requests):
        features, together = encode_images(runtime, images)
        encoding = {stage: spent / len(images) for stage, spent in together.items()}
    columns: list[list[TaskResult]] = []
    for request in requests:
        if request.task == "ocr" or features is None:
            columns.append([read_image(runtime, image) for image in images])
        else:
            columns.append(write_texts(runtime, images, features, [request] * len(images), generation))
    return [[_with_timings(result, encoding) for result in row] for row in zip(*columns, strict=True)]


def _with_timings(result: TaskResult, encoding: dict[str, float]) -> TaskResult:
    spent = dict(result.timings_ms) if result.task == "ocr" else {**encoding, **result.timings_ms}
    spent["total"] = sum(spent.values())
    return replace(result, timings_ms={stage: round(ms, 3) for stage, ms in spent.items()})
