"""Captions of a small data set, and what every report holds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.content_words import repeated_words
from benchmarks.evaluate import Figure, evaluate
from benchmarks.quality import bleu, cider_d, tokenize
from tests.benchmarks.small_data import (
    CAPTION_ROWS,
    CAPTIONS,
    IMAGE_COLORS,
    ColorModel,
    write_jsonl,
    write_photos,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_photos(tmp_path)
    return tmp_path


def test_captions_are_scored_by_source_as_the_metrics_score_them(data: Path) -> None:
    path = write_jsonl(data / "val.jsonl", CAPTION_ROWS)
    seen: list[tuple[int, int]] = []
    report = evaluate(ColorModel(), path, "caption", progress=lambda done, total: seen.append((done, total)))

    hypotheses = [tokenize(CAPTIONS[color]) for color in IMAGE_COLORS]
    references = [[tokenize(caption) for caption in row["captions"]] for row in CAPTION_ROWS]
    for group, part in ("all", slice(None)), ("COCO", slice(3)), ("Flickr8k", slice(3, 5)):
        expected = cider_d(hypotheses[part], references[part])
        figure = report.figure("cider_d", group)
        assert figure.value == pytest.approx(expected)
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= figure.value <= figure.high
        assert report.figure("bleu_4", group).value == pytest.approx(bleu(hypotheses[part], references[part]))
        assert figure.samples == len(hypotheses[part])
    assert report.figure("cider_d").value > 0
    assert report.figure("mean_caption_tokens").value == pytest.approx(sum(map(len, hypotheses)) / 5)
    assert report.figure("distinct_captions_percent").value == pytest.approx(80.0)
    assert seen == [(5, 5)]
    assert [row["caption"] for row in report.rows][:2] == [
        "A red car on a street.",
        "Two people sit in the green grass.",
    ]
    assert report.images == 5
    assert report.data == "val.jsonl"


def test_a_report_is_plain_json_with_finite_numbers(data: Path) -> None:
    report = evaluate(ColorModel(), write_jsonl(data / "val.jsonl", CAPTION_ROWS), "caption")
    document = json.loads(json.dumps(report.to_json(rows=True), allow_nan=False))
    assert document["schema_version"] == 1
    assert document["model"] == "color-model"
    assert len(document["rows"]) == 5
    assert "rows" not in report.to_json()
    with pytest.raises(KeyError, match="there are cider_d/all/model"):
        report.figure("cider_d", "Nowhere")


def test_a_figure_that_is_no_number_never_passes() -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        Figure("cer_percent", "pages", "model", math.nan, None, None, 3)
    with pytest.raises(ValueError, match="no samples"):
        Figure("cer_percent", "pages", "model", 1.0, None, None, 0)


def test_only_content_words_said_twice_are_counted() -> None:
    assert repeated_words("a street with a street sign on a sign".split()) == {"street", "sign"}
    assert repeated_words("a dog and a cat on the mat".split()) == frozenset()
