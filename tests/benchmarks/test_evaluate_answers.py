"""Answers about a small data set, beside both baselines."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.evaluate import EvaluationReport, evaluate
from tests.benchmarks.small_data import QUESTION_ROWS, ColorModel, write_jsonl, write_photos


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_photos(tmp_path)
    return tmp_path


def values(report: EvaluationReport, metric: str, group: str) -> list[float]:
    systems = ("model", "most common answer", "blank image")
    return [round(report.figure(metric, group, system).value, 4) for system in systems]


def test_answers_are_scored_beside_both_baselines(data: Path) -> None:
    path = write_jsonl(data / "vqa.jsonl", QUESTION_ROWS)
    train = write_jsonl(
        data / "train.jsonl",
        [
            {"image": "x", "question": "what?", "answer": answer, "type": kind, "source": source}
            for answer, kind, source in [
                ("blue", "color", "COCO-QA"),
                ("blue", "color", "COCO-QA"),
                ("red", "color", "COCO-QA"),
                ("3", "number", "COCO-QA"),
                ("two", "number", "VQA v2"),
                ("red", "other", "VQA v2"),
            ]
        ],
    )
    model = ColorModel()
    seen: list[tuple[int, int]] = []
    report = evaluate(
        model, path, "vqa", train_data=train, progress=lambda done, total: seen.append((done, total))
    )
    # Two of ten people say two: 2/3 of full credit; seven say red: full credit.
    assert values(report, "vqa_accuracy_percent", "human") == [83.3333, 83.3333, 33.3333]
    assert values(report, "vqa_accuracy_percent", "human: number") == [66.6667, 66.6667, 66.6667]
    assert values(report, "exact_match_percent", "human, one answer") == [100.0, 0.0, 0.0]
    assert values(report, "exact_match_percent", "COCO-QA: color") == [100.0, 50.0, 0.0]
    assert values(report, "exact_match_percent", "COCO-QA: number") == [100.0, 0.0, 100.0]
    assert values(report, "exact_match_percent", "all") == [83.3333, 33.3333, 16.6667]
    assert report.figure("gain_points", "COCO-QA: color").value == pytest.approx(100.0)
    assert report.figure("gain_points", "COCO-QA: number").value == pytest.approx(0.0)
    assert report.figure("vqa_accuracy_percent", "human").samples == 2
    assert any("the training file" in note for note in report.notes)
    # Each of the five photos once, then the blank picture.
    assert model.batches == [(1, 2), (1, 1), (1, 1), (1, 1), (1, 1), (1, 6)]
    assert seen[-1] == (12, 12)
    assert report.images == 5


def test_without_training_data_the_report_says_where_common_answers_come_from(data: Path) -> None:
    report = evaluate(ColorModel(), write_jsonl(data / "vqa.jsonl", QUESTION_ROWS), "vqa")
    assert any("the evaluated questions themselves" in note for note in report.notes)
    assert report.figure("exact_match_percent", "COCO-QA: number", "most common answer").value == 100.0
