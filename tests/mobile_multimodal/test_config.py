"""Sizes are checked when they are made, and unknown keys are errors."""

from __future__ import annotations

import dataclasses
import json

import pytest

from mobile_multimodal.component_specs import component_names, component_specs
from mobile_multimodal.config import ModelConfig, OcrConfig, TextConfig, VisionConfig, from_json, to_json
from mobile_multimodal.errors import UsageError
from mobile_multimodal.results import GenerationConfig, TaskRequest
from mobile_multimodal.tensor_spec import TensorSpec


@pytest.mark.parametrize("ocr", [None, OcrConfig(characters="abc")])
def test_json_round_trip(ocr: OcrConfig | None) -> None:
    config = ModelConfig(name="x", ocr=ocr)
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize("part", ["vision", "text", None])
def test_an_unknown_key_is_an_error(part: str | None) -> None:
    row = to_json(ModelConfig())
    (row if part is None else row[part])["surprise"] = 1
    with pytest.raises(ValueError, match="surprise"):
        from_json(row)


def test_json_that_is_no_object_is_an_error() -> None:
    with pytest.raises(ValueError, match="model configuration"):
        from_json(json.loads("3"))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (VisionConfig, {"image_size": 225}),
        (VisionConfig, {"image_size": 0}),
        (TextConfig, {"width": 200}),
        (TextConfig, {"num_heads": 7}),
        (TextConfig, {"num_heads": 0}),
        (TextConfig, {"num_name_slots": 128}),
        (OcrConfig, {"min_confidence": 1.5}),
    ],
)
def test_sizes_that_cannot_be_are_refused(kind: type, fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        kind(**fields)


def test_specs_are_there_for_every_component() -> None:
    config = ModelConfig(ocr=OcrConfig(characters="abc"))
    assert len(component_names(config)) == 4
    for name in component_names(config):
        inputs, outputs = component_specs(name, config)
        assert inputs
        assert outputs
        for spec in (*inputs, *outputs):
            assert TensorSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    with pytest.raises(KeyError):
        component_specs("text_detector", dataclasses.replace(config, ocr=None))


@pytest.mark.parametrize(
    "fields",
    [
        ("", (1,), "uint8", "B"),
        ("x", (0,), "uint8", "B"),
        ("x", (1,), "int4", "B"),
        ("x", (1,), "uint8", "BC"),
    ],
)
def test_a_wrong_spec_is_refused(fields: tuple[str, tuple[int, ...], str, str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        TensorSpec(*fields)


@pytest.mark.parametrize(
    ("task", "question", "said"),
    [
        ("describe", None, "unknown task 'describe' (one of caption, ocr, vqa)"),
        ("vqa", None, "the question is empty"),
        ("vqa", " \n", "the question is empty"),
        ("vqa", " ?? ", "the question is empty"),
        ("vqa", "x" * 10_000, "10,000 characters"),
        ("vqa", b"what \xff".decode(errors="surrogateescape"), "not valid Unicode"),
        ("caption", "why?", "takes no question"),
    ],
)
def test_a_request_that_cannot_work_is_refused(task: str, question: str | None, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        TaskRequest(task, question)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 0},
        {"max_tokens": 65},
        {"num_beams": 0},
        {"num_beams": 9},
        {"length_penalty": -1.0},
        {"length_penalty": float("nan")},
    ],
)
def test_generation_limits(fields: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        GenerationConfig(**fields)
