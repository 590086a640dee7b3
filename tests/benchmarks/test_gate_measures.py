"""What the gate measures, on real models: values that can be checked, and that they are there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import pytest

from benchmarks.compare_quality import CAPTION_FILE, QUESTION_FILE, load_quality_data
from benchmarks.environment import usable_cores
from benchmarks.evaluate import evaluate
from benchmarks.gate import Gate, GateCheck, Measured
from benchmarks.gate_file import default_gate
from benchmarks.gate_measure_data import measure_cider_d, measure_data_page_cer, measure_vqa_accuracy
from benchmarks.gate_measure_speed import measure_latency, measure_peak_memory, measure_throughput
from benchmarks.gate_measure_start import measure_size
from benchmarks.gate_measure_words import measure_page_cer
from benchmarks.gate_pictures import GATE_PICTURES, names_any, picture_bytes
from benchmarks.gate_run import run_gate
from benchmarks.gate_subject import Effort, GateSubject, open_subject
from mobile_multimodal import load_image
from mobile_multimodal.bundle import ModelBundle, find_model
from mobile_multimodal.errors import InconclusiveError
from mobile_multimodal.manifest import Manifest
from mobile_multimodal.model import MobileMultiModalLLM
from tests.benchmarks.small_data import (
    CAPTION_ROWS,
    QUESTION_ROWS,
    ColorModel,
    write_jsonl,
    write_photos,
)

ARTIFACT = find_model("mmllm-base", "onnxruntime")
QUICK = Effort(latency_samples=12, latency_seconds=600.0, throughput_seconds=0.1, pages=1, data_pages=1)


@pytest.fixture(scope="module")
def subject() -> GateSubject:
    return open_subject(None, default_gate(), effort=QUICK)


def number(measured: Measured) -> float:
    assert isinstance(measured.value, float)
    return measured.value


def test_the_default_subject_is_the_packaged_artifact(subject: GateSubject) -> None:
    assert subject.directory == ARTIFACT
    assert subject.to_json()["format"] == "onnx"
    assert subject.to_json()["bytes"] == sum(path.stat().st_size for path in ARTIFACT.iterdir())
    assert number(measure_size(subject)) == subject.bytes / 1e6


def test_latencies_are_as_many_as_were_asked_for(subject: GateSubject) -> None:
    measured = measure_latency(subject)
    assert len(measured.samples_ms) == QUICK.latency_samples
    assert min(measured.samples_ms) > 0
    hurried = dataclasses.replace(subject, effort=Effort(latency_samples=1000, latency_seconds=0.01))
    assert 1 <= len(measure_latency(hurried).samples_ms) < 1000


def test_throughput_counts_whole_batches(subject: GateSubject) -> None:
    measured = measure_throughput(subject)
    assert number(measured) > 0
    done = int(measured.note.split()[0])
    assert done % 16 == 0
    assert done >= 16 * len(usable_cores())


def test_peak_memory_is_that_of_a_whole_process(subject: GateSubject) -> None:
    # Python with numpy and ONNX Runtime alone holds more than 40 MB; the weights come on top.
    assert 40 + number(measure_size(subject)) < number(measure_peak_memory(subject)) < 2000


def test_pages_are_drawn_and_read(subject: GateSubject) -> None:
    measured = measure_page_cer(subject)
    assert 0.0 <= number(measured) <= 2.0
    assert measured.note == "1 drawn pages, seed 0"


def test_a_model_that_reads_no_text_is_not_asked_to(tiny_bundle: ModelBundle) -> None:
    gate = Gate("reader", (GateCheck("page_cer_percent", "<=", 2.0),))
    [outcome] = run_gate(gate, open_subject(tiny_bundle.directory, gate)).outcomes
    assert outcome.status == "inconclusive"
    assert "reads no text" in outcome.reason


def test_the_photos_are_packaged_small_and_credited() -> None:
    credited = (Path(__file__).parents[2] / "benchmarks/gates/pictures/CREDITS.md").read_text("utf-8")
    files = [picture_bytes(picture) for picture in GATE_PICTURES]
    assert sum(map(len, files)) < 200_000
    for picture, data in zip(GATE_PICTURES, files, strict=True):
        assert f"| `{picture.file}` |" in credited
        assert load_image(data).pixels.shape[2] == 3
        assert picture.words
        assert picture.questions


def test_words_are_whole_words() -> None:
    assert names_any("A cat's tail.", ("cat",))
    assert names_any("Two COWS, a barn.", ("cow", "cows"))
    assert not names_any("A caterpillar scatters.", ("cat",))
    assert not names_any("", ("cat",))


@pytest.fixture
def with_data(tmp_path: Path) -> GateSubject:
    """A model that sees colours, and data that it is partly right about."""
    write_photos(tmp_path)
    write_jsonl(tmp_path / CAPTION_FILE, CAPTION_ROWS)
    write_jsonl(tmp_path / QUESTION_FILE, QUESTION_ROWS)
    data = load_quality_data(tmp_path, with_pages=False)
    model = cast("MobileMultiModalLLM", ColorModel())
    return GateSubject(ARTIFACT, Manifest.read(ARTIFACT), "onnxruntime", model, evaluation=data)


def test_evaluation_data_gives_the_figures_of_mmllm_eval(with_data: GateSubject, tmp_path: Path) -> None:
    wanted = evaluate(ColorModel(), tmp_path / CAPTION_FILE, "caption").figure("cider_d")
    measured = measure_cider_d(with_data)
    assert number(measured) == pytest.approx(wanted.value)
    assert measured.note.endswith(f"{len(CAPTION_ROWS)} photos")
    accuracy = measure_vqa_accuracy(with_data)
    assert 0 < number(accuracy) < 100
    assert accuracy.note == f"{len(QUESTION_ROWS)} questions"


def test_limits_on_evaluation_data_are_judged(with_data: GateSubject) -> None:
    value = number(measure_cider_d(with_data))
    for limit, code in ((value - 1, 0), (value + 1, 4)):
        gate = Gate("data", (GateCheck("cider_d", ">=", limit), GateCheck("vqa_accuracy_percent", ">", 0.0)))
        assert run_gate(gate, with_data).exit_code == code


def test_pages_of_the_evaluation_data(subject: GateSubject, with_data: GateSubject) -> None:
    with pytest.raises(InconclusiveError, match="--eval-data"):
        measure_data_page_cer(subject)
    reading = dataclasses.replace(subject, evaluation=with_data.evaluation)
    assert 0.0 <= number(measure_data_page_cer(reading)) <= 2.0
