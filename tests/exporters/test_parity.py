"""Comparing outputs and texts: what is missing, empty, of another shape or not finite never passes."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pytest

from exporters.parity import EXACT, ROUNDED, ParityReport, compare_outputs, compare_tasks
from exporters.parity_pictures import parity_pictures
from mobile_multimodal.backends import Array
from mobile_multimodal.errors import BundleError
from mobile_multimodal.results import TaskResult, TextRegion

WANTED = np.linspace(-1, 1, 50, dtype=np.float32)
BOX = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


class Answers:
    """A backend that gives the same outputs each time, or fails."""

    name = "answers"
    components = ("text_decoder",)

    def __init__(self, outputs: Mapping[str, Array] | BundleError) -> None:
        self.outputs = outputs

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if isinstance(self.outputs, BundleError):
            raise self.outputs
        return dict(self.outputs)


def check(outputs: Mapping[str, Array] | BundleError) -> tuple[bool, str]:
    calls = [("text_decoder", {}, {"logits": WANTED})] * 2
    [row] = compare_outputs(calls, Answers(outputs), EXACT)
    assert (row.component, row.output, row.calls) == ("text_decoder", "logits", 2)
    return row.passed, row.reason


def test_a_component_that_was_never_run_fails() -> None:
    [row] = compare_outputs([], Answers({"logits": WANTED}), EXACT)
    assert (row.component, row.passed, row.reason) == ("text_decoder", False, "was never run")


def test_equal_and_nearly_equal_outputs_pass() -> None:
    assert check({"logits": WANTED}) == (True, "")
    assert check({"logits": WANTED + np.float32(5e-5)}) == (True, "")


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ({"logits": WANTED + np.float32(3e-4)}, "max abs error 0.0003 is above 0.0002"),
        ({"logits": WANTED[:-1]}, r"shapes \(50,\) and \(49,\) differ"),
        ({"logits": np.where(np.arange(50) == 7, np.nan, WANTED)}, "not finite"),
        ({"tokens": WANTED}, "is missing"),
        ({}, "is missing"),
        (BundleError("decoder.tflite: cannot be run"), r"decoder\.tflite: cannot be run"),
    ],
)
def test_what_differs_or_is_missing_fails_with_the_reason(
    outputs: Mapping[str, Array] | BundleError, reason: str
) -> None:
    passed, found = check(outputs)
    assert not passed
    assert re.search(reason, found)


def test_rounded_activations_are_judged_by_direction() -> None:
    noisy = WANTED + np.float32(0.02) * np.sin(np.arange(50, dtype=np.float32))
    calls = [("text_decoder", {}, {"logits": WANTED})]
    [row] = compare_outputs(calls, Answers({"logits": noisy}), ROUNDED)
    assert row.passed
    [row] = compare_outputs(calls, Answers({"logits": -WANTED}), ROUNDED)
    assert not row.passed
    assert row.reason == "cosine -1.000000 is below 0.999"


def caption(*tokens: int) -> TaskResult:
    return TaskResult(task="caption", text=f"text {tokens}", confidence=0.5, token_ids=tokens, timings_ms={})


def reading(*lines: str) -> TaskResult:
    regions = tuple(TextRegion(line, BOX, 0.9) for line in lines)
    return TaskResult(task="ocr", text="\n".join(lines), confidence=0.9, regions=regions, timings_ms={})


def test_texts_count_by_tokens_and_by_lines_and_the_first_difference_is_shown() -> None:
    ours = [[caption(1, 2), reading("a", "b")], [caption(3), reading("c")]]
    theirs = [[caption(1, 2), reading("a b")], [caption(4), reading("c")]]
    captions, read = compare_tasks(ours, theirs, ["one", "two"], EXACT)
    assert (captions.equal, captions.pictures, captions.passed) == (1, 2, False)
    assert captions.first_difference == "'text (3,)' and 'text (4,)' of two"
    assert (read.equal, read.passed) == (1, False)
    captions, _ = compare_tasks([*ours, *ours[:1]], [*theirs, *ours[:1]], ["one", "two", "three"], ROUNDED)
    assert (captions.equal, captions.passed) == (2, True)  # 67 of 60 %


def test_a_report_of_nothing_does_not_pass() -> None:
    report = ParityReport("onnxruntime", EXACT, (), ())
    assert not report.passed
    assert report.first_failure() == "nothing was compared"


def test_pictures_are_many_different_and_always_the_same() -> None:
    first, again = parity_pictures(32), parity_pictures(32)
    assert len(first) == 32
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))
    assert len({picture.pixels.tobytes() for picture in first}) == 32
    assert sum(picture.source.startswith("page") for picture in first) == 8
    with pytest.raises(ValueError, match="fewer than 4"):
        parity_pictures(3)
