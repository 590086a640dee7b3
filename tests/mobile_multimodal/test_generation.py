"""Generation: the cache changes nothing, one beam is greedy, batches do not mix, backends agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from mobile_multimodal.backends import Array, Backend
from mobile_multimodal.backends.onnx_backend import OnnxBackend
from mobile_multimodal.backends.torch_backend import open_torch_backend
from mobile_multimodal.bundle import ModelBundle, load_bundle
from mobile_multimodal.errors import BundleError, UsageError
from mobile_multimodal.generation import MASKED, ImageFeatures, generate, log_softmax
from mobile_multimodal.model import open_backend
from mobile_multimodal.prompts import Prompt, build_prompts, choose_names, fill_slots, softmax, task_tokens
from mobile_multimodal.results import GenerationConfig, GenerationResult, TaskRequest
from mobile_multimodal.tokenizer import SPECIAL_TOKENS
from tests.tiny import TINY, tiny_tokenizer

TEXT = TINY.text
TOKENIZER = tiny_tokenizer()
QUESTIONS = [TaskRequest("caption"), TaskRequest("vqa", "what color is the cat?"), TaskRequest("vqa", "why?")]


def name_tokens(label: int) -> Sequence[int]:
    return TOKENIZER.encode(f"thing {label}")


@pytest.fixture(scope="module")
def torch_backend(tiny_bundle: ModelBundle) -> Backend:
    return open_torch_backend(tiny_bundle)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def encode(backend: Backend, pixels: np.ndarray) -> ImageFeatures:
    output = backend.run("vision_encoder", {"pixel_values": pixels})
    return ImageFeatures(output["image_key"], output["image_value"], output["class_logits"])


def prompts(features: ImageFeatures, requests: Sequence[TaskRequest]) -> Prompt:
    tasks = [task_tokens(request, TOKENIZER, TEXT) for request in requests]
    return build_prompts(features.class_logits, tasks, name_tokens, TOKENIZER, TINY)


def write(
    backend: Backend, features: ImageFeatures, requests: Sequence[TaskRequest], config: GenerationConfig
) -> list[GenerationResult]:
    return generate(backend, features, prompts(features, requests), TEXT, TOKENIZER, config)


def greedy_without_cache(backend: Backend, features: ImageFeatures, prompt: Prompt, steps: int) -> list[int]:
    """One row, all positions and all tokens anew at every step: the plain definition of greedy decoding."""
    end = TEXT.num_name_slots + int(prompt.lengths[0])
    ids, visible = np.full((1, end), TOKENIZER.pad_id), np.zeros((1, end), bool)
    ids[0, prompt.position_ids[0]], visible[0, prompt.position_ids[0]] = prompt.input_ids[0], True
    written: list[int] = []
    empty = np.zeros((TEXT.num_layers, 1, TEXT.num_heads, 0, TEXT.head_dim), np.float32)
    for step in range(steps):
        length = ids.shape[1]
        mask = np.where(
            np.tril(np.ones((length, length), bool)) & visible[:, None, None], np.float32(0), MASKED
        )
        output = backend.run(
            "text_decoder",
            {
                "input_ids": ids,
                "position_ids": np.arange(length)[None],
                "attention_mask": mask,
                "image_key": features.key,
                "image_value": features.value,
                "past_key": empty,
                "past_value": empty,
            },
        )
        logits = output["logits"][0, -1].astype(np.float32)
        allowed = [
            i for i in range(len(logits)) if i >= len(SPECIAL_TOKENS) or (i == TOKENIZER.end_id and step)
        ]
        token = max(allowed, key=lambda i: logits[i])
        if token == TOKENIZER.end_id:
            break
        written.append(token)
        ids = np.concatenate((ids, [[token]]), axis=1)
        visible = np.concatenate((visible, [[True]]), axis=1)
    return written


@pytest.mark.parametrize("request_", QUESTIONS, ids=lambda r: r.task)
def test_the_cache_changes_nothing(torch_backend: Backend, pixels: np.ndarray, request_: TaskRequest) -> None:
    for row in range(len(pixels)):
        features = encode(torch_backend, pixels[row : row + 1])
        cached = write(torch_backend, features, [request_], GenerationConfig(max_tokens=10))[0]
        plain = greedy_without_cache(torch_backend, features, prompts(features, [request_]), 10)
        assert list(cached.token_ids) == plain


def test_empty_name_slots_are_left_out_and_everything_keeps_its_position() -> None:
    class_logits = np.full((3, TINY.vision.num_classes + TEXT.num_words), -20.0, np.float32)
    names = {3: [7, 8], 5: [9]}
    class_logits[0, 3], class_logits[2, 5] = 20.0, 20.0
    tasks = [[1], [1, 11, 12], [1]]
    prompt = build_prompts(class_logits, tasks, names.__getitem__, TOKENIZER, TINY)
    first = TEXT.num_name_slots
    rows = [
        [(int(i), int(p)) for i, p, v in zip(*row, strict=True) if v]
        for row in zip(prompt.input_ids, prompt.position_ids, prompt.visible, strict=True)
    ]
    assert rows == [
        [(7, 0), (8, 1), (1, first)],
        [(1, first), (11, first + 1), (12, first + 2)],
        [(9, 0), (1, first)],
    ]
    assert prompt.input_ids.shape == (3, 3)
    assert not prompt.visible[2, 2]


def test_batched_rows_of_different_length_do_not_mix(torch_backend: Backend, pixels: np.ndarray) -> None:
    features = encode(torch_backend, pixels)
    together = write(torch_backend, features, QUESTIONS, GenerationConfig(max_tokens=12))
    for row, request in enumerate(QUESTIONS):
        alone = write(
            torch_backend, features.take(np.array([row])), [request], GenerationConfig(max_tokens=12)
        )
        assert alone[0].token_ids == together[row].token_ids
        assert alone[0].confidence == pytest.approx(together[row].confidence, rel=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_torch_and_onnx_runtime_write_the_same(
    torch_backend: Backend, tiny_artifacts: dict[str, Path], pixels: np.ndarray, beams: int
) -> None:
    onnx = open_backend(load_bundle(tiny_artifacts["float32"]), "onnxruntime", 1)
    ours, theirs = encode(torch_backend, pixels), encode(onnx, pixels)
    assert np.abs(ours.key - theirs.key).max() <= 1e-4
    assert np.abs(ours.class_logits - theirs.class_logits).max() <= 1e-4
    config = GenerationConfig(max_tokens=12, num_beams=beams)
    expected = write(torch_backend, ours, QUESTIONS, config)
    found = write(onnx, theirs, QUESTIONS, config)
    assert [r.token_ids for r in found] == [r.token_ids for r in expected]
    assert [r.confidence for r in found] == pytest.approx([r.confidence for r in expected], rel=1e-3)


class Scripted:
    """A decoder whose logits depend on the last token alone: row ``t`` of a table."""

    name = "scripted"
    components = ("text_decoder",)

    def __init__(self, table: np.ndarray) -> None:
        self.table = table
        self.calls = 0

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.calls += 1
        ids = inputs["input_ids"]
        shape = (TEXT.num_layers, ids.shape[0], TEXT.num_heads, ids.shape[1], TEXT.head_dim)
        return {
            "logits": np.log(self.table[ids]).astype(np.float32),
            "new_key": np.zeros(shape, np.float32),
            "new_value": np.zeros(shape, np.float32),
        }


def scripted(pairs: Mapping[tuple[int, int], float]) -> Scripted:
    table = np.full((TEXT.vocab_size, TEXT.vocab_size), 1e-9)
    for (before, after), probability in pairs.items():
        table[before, after] = probability
    return Scripted(table)


def blank_features() -> ImageFeatures:
    image = np.zeros((TEXT.num_layers, 1, TEXT.num_heads, TINY.vision.num_cells, TEXT.head_dim), np.float32)
    return ImageFeatures(image, image, np.zeros((1, TINY.vision.num_names), np.float32))


START, END = TOKENIZER.caption_id, TOKENIZER.end_id
A, B, C = 10, 11, 12


def test_beams_find_what_greedy_misses() -> None:
    backend = scripted(
        {
            (START, A): 0.6,
            (START, B): 0.4,
            (A, C): 0.5,
            (A, END): 0.5,
            (C, END): 0.5,
            (C, C): 0.5,
            (B, END): 0.99,
            (B, C): 0.01,
        }
    )
    request = [TaskRequest("caption")]
    greedy = write(backend, blank_features(), request, GenerationConfig(max_tokens=6))[0]
    assert greedy.token_ids[0] == A
    beam = write(backend, blank_features(), request, GenerationConfig(max_tokens=6, num_beams=3))[0]
    assert beam.token_ids == (B,)
    assert beam.finish_reason == "stop"
    assert beam.confidence == pytest.approx((0.4 * 0.99) ** 0.5, rel=1e-3)


def test_it_stops_at_the_end_and_says_when_it_was_cut() -> None:
    backend = scripted({(START, A): 1.0, (A, B): 1.0, (B, END): 1.0})
    request = [TaskRequest("caption")]
    whole = write(backend, blank_features(), request, GenerationConfig(max_tokens=9))[0]
    assert (whole.token_ids, whole.finish_reason) == ((A, B), "stop")
    assert backend.calls == 3
    cut = write(backend, blank_features(), request, GenerationConfig(max_tokens=1))[0]
    assert (cut.token_ids, cut.finish_reason) == ((A,), "length")


def test_no_text_is_empty_and_no_marker_is_written() -> None:
    backend = scripted(
        {(START, END): 0.9, (START, TOKENIZER.answer_id): 0.09, (START, A): 0.01, (A, END): 1.0}
    )
    result = write(backend, blank_features(), [TaskRequest("caption")], GenerationConfig())[0]
    assert result.token_ids == (A,)


def test_names_are_classes_then_words_the_likely_ones_first() -> None:
    classes = TINY.vision.num_classes
    logits = np.full((2, TINY.vision.num_names), -20.0, np.float32)
    logits[0, 7], logits[0, 3] = 5.0, 4.0
    logits[0, classes + 1], logits[0, classes + 6] = 0.5, 3.0
    logits[1, 1] = 9.0
    assert choose_names(logits, TINY.vision, TEXT) == [[7, 3, classes + 6, classes + 1], [1]]


def test_an_unsure_encoder_names_nothing() -> None:
    unsure = np.zeros((1, TINY.vision.num_names), np.float32)
    unsure[:, TINY.vision.num_classes :] = -4.0
    assert choose_names(unsure, TINY.vision, TEXT) == [[]]


def test_no_more_names_are_given_than_the_model_was_taught() -> None:
    sure = np.full((1, TINY.vision.num_names), 9.0, np.float32)
    sure[:, TINY.vision.num_classes :] = 5.0
    config = dataclasses.replace(TEXT, num_words=3)
    assert choose_names(sure, TINY.vision, config)[0] == [classes_first(i) for i in range(3)]


def classes_first(index: int) -> int:
    return TINY.vision.num_classes + index


def test_a_name_that_does_not_fit_is_left_out_with_those_behind_it() -> None:
    long, short = [5] * (TEXT.num_name_slots - 1), [6, 7]
    ids = fill_slots([[long, short, [8]], [short], []], TOKENIZER.pad_id, TEXT)
    assert ids.shape == (3, TEXT.num_name_slots)
    assert ids[0].tolist() == [*long, TOKENIZER.pad_id]
    assert ids[1].tolist() == [*short, *[TOKENIZER.pad_id] * (TEXT.num_name_slots - 2)]
    assert set(ids[2].tolist()) == {TOKENIZER.pad_id}


def test_softmax_and_its_logarithm_agree() -> None:
    logits = np.array([[1000.0, 999.0, -1000.0]], np.float32)
    assert np.allclose(softmax(logits), np.exp(log_softmax(logits)))
    assert softmax(logits).sum() == pytest.approx(1.0)


def test_the_onnx_backend_translates_a_failing_run(tiny_artifacts: dict[str, Path]) -> None:
    backend = OnnxBackend({"vision_encoder": tiny_artifacts["float32"] / "vision_encoder.onnx"})
    with pytest.raises(BundleError, match=r"vision_encoder\.onnx: ONNX Runtime cannot run it: .*dimensions"):
        backend.run("vision_encoder", {"pixel_values": np.zeros((1, 3, 3, 3), np.uint8)})


def test_an_unknown_backend_is_not_guessed(tiny_bundle: ModelBundle) -> None:
    with pytest.raises(UsageError, match=r"unknown backend 'tensorrt' .*onnxruntime, torch, litert, coreml"):
        open_backend(tiny_bundle, "tensorrt", None)


def test_the_onnx_backend_names_what_it_lacks(tiny_artifacts: dict[str, Path]) -> None:
    backend = OnnxBackend({"text_decoder": tiny_artifacts["float32"] / "text_decoder.onnx"})
    assert backend.components == ("text_decoder",)
    with pytest.raises(KeyError):
        backend.run("text_detector", {})


def test_training_and_the_runtime_mask_alike() -> None:
    from mobile_multimodal.networks import text_decoder

    assert float(MASKED) == text_decoder.MASKED
