"""Measures of a model's numbers: against the floats that it was made from, and against torch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from benchmarks.content_words import content_words
from benchmarks.gate import Measured
from benchmarks.gate_subject import GateSubject
from mobile_multimodal.backends import Array
from mobile_multimodal.backends.recording import Call, Recorder
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import InconclusiveError
from mobile_multimodal.fixed_sizes import FixedSizes, graph_specs
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.numerics import cosine_similarity, max_abs_error
from mobile_multimodal.preprocessing import preprocess
from mobile_multimodal.results import GenerationConfig, TaskRequest
from mobile_multimodal.tasks import Runtime, run_tasks

__all__ = [
    "measure_float_caption_f1",
    "measure_float_cosine",
    "measure_torch_cosine",
    "measure_torch_error",
]

FEATURES = ("image_key", "image_value")


def measure_float_cosine(subject: GateSubject) -> Measured:
    """How alike the image features are to those of the floats: the least cosine of keys and values.

    Raises:
        NotRequiredError: the subject stores the floats themselves.
        InconclusiveError: the floats are not known, or are of other sizes.
        MissingExtraError: torch is not installed.
    """
    model, floats = subject.loaded, subject.float_model
    side = model.config.vision.image_size
    if floats.config.vision.image_size != side:
        raise InconclusiveError(f"{floats.name} sees pictures of another size")
    pixels = np.stack([preprocess(image.pixels, side) for image in subject.pictures])
    wanted, found = (
        [model.backend.run("vision_encoder", {"pixel_values": row[None]}) for row in pixels]
        for model in (floats, model)
    )
    pairs = [
        (left[name], right[name]) for left, right in zip(wanted, found, strict=True) for name in FEATURES
    ]
    value, note = _least_cosine(pairs)
    return Measured(value, note=note or f"{len(pixels)} photos, {floats.name} {floats.recipe}")


def measure_float_caption_f1(subject: GateSubject) -> Measured:
    """How many content words captions share with those of the floats: the mean F1 of the photos, per cent.

    Raises:
        NotRequiredError: the subject stores the floats themselves.
        InconclusiveError: the floats are not known.
        MissingExtraError: torch is not installed.
    """
    captions = subject.captions
    rows = subject.float_model.run(subject.pictures, [TaskRequest("caption")])
    scores, worst = [], ("", 2.0)
    for [wanted], found in zip(rows, captions, strict=True):
        left, right = set(content_words(wanted.text)), set(content_words(found.text))
        together = len(left) + len(right)
        scores.append(2 * len(left & right) / together if together else 0.0)
        if scores[-1] < worst[1]:
            worst = (f"{wanted.text} / {found.text}", scores[-1])
    note = f"{len(scores)} photos" + (f", least alike: {worst[0]}" if worst[1] < 1 else ", all alike")
    return Measured(100.0 * sum(scores) / len(scores), note=note)


def measure_torch_cosine(subject: GateSubject) -> Measured:
    """The least cosine of any output of any component with that of torch, on the same inputs.

    Raises:
        NotRequiredError: the subject is a bundle.
        InconclusiveError: no bundle of the same numbers is known.
        MissingExtraError: torch is not installed.
    """
    worst, note = math.inf, ""
    for where, wanted, found in _torch_pairs(subject):
        value, problem = _least_cosine([(wanted, found)])
        if problem:
            return Measured(value, note=f"{where}: {problem}")
        if value < worst:
            worst, note = value, f"least in {where}; against {subject.torch_numbers}"
    return Measured(worst if note else None, note=note)


def measure_torch_error(subject: GateSubject) -> Measured:
    """The largest difference of any output of any component from that of torch, on the same inputs.

    Raises:
        NotRequiredError, InconclusiveError, MissingExtraError: as :func:`measure_torch_cosine`.
    """
    worst, note = -1.0, ""
    for where, wanted, found in _torch_pairs(subject):
        try:
            value = max_abs_error(wanted, found)
        except ValueError as exc:
            return Measured(math.nan, note=f"{where}: {exc}")
        if value > worst:
            worst, note = value, f"largest in {where}; against {subject.torch_numbers}"
    return Measured(worst if note else None, note=note)


def _least_cosine(pairs: list[tuple[Array, Array]]) -> tuple[float, str]:
    try:
        return min(cosine_similarity(wanted, found) for wanted, found in pairs), ""
    except ValueError as exc:
        return math.nan, str(exc)


def _torch_pairs(subject: GateSubject) -> Iterator[tuple[str, Array, Array]]:
    """``component output``, torch's array and the subject's, call by call."""
    model = subject.loaded
    for component, inputs, expected in _torch_calls(subject, subject.torch_model):
        if component not in model.backend.components:
            continue
        outputs = model.backend.run(component, inputs)
        for name, wanted in expected.items():
            yield f"{component} {name}", wanted, outputs.get(name, np.empty(0, np.float32))


def _torch_calls(subject: GateSubject, reference: MobileMultiModalLLM) -> list[Call]:
    """What torch makes of the photos: a caption and an answer of each, a page and a line as pixels."""
    bundle: ModelBundle = reference.bundle
    recorder = Recorder(reference.backend)

    def name_tokens(label: int) -> tuple[int, ...]:
        return tuple(bundle.tokenizer.encode(bundle.class_names[label]))

    runtime = Runtime(reference.config, bundle.tokenizer, recorder, name_tokens)
    requests = [TaskRequest("caption"), TaskRequest("vqa", "what is in the picture?")]
    with_reader = reference.config.ocr is not None
    for image in subject.pictures:
        run_tasks(runtime, [image], requests, GenerationConfig(max_tokens=8))
    # Pages and lines in the smallest sizes that artifacts of fixed sizes have, so that nothing is padded.
    for component in ("text_detector", "text_recognizer") if with_reader else ():
        [spec] = graph_specs(reference.config, FixedSizes())[component][0].inputs
        _, rows, columns, _ = (int(size) for size in spec.shape)
        photo = subject.pictures[0].pixels
        pixels = np.resize(photo, (rows, photo.shape[1], 3))
        pixels = np.ascontiguousarray(np.tile(pixels, (1, 1 + columns // photo.shape[1], 1))[:, :columns])
        recorder.run(component, {"pixel_values": pixels[None]})
    return recorder.calls
