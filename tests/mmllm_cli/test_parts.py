"""The parts between the options and the screen: judging, batching, rows, tables, files."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mmllm_cli.console import dim, one_line, print_json
from mmllm_cli.image_inputs import InputPicture
from mmllm_cli.info_output import info_lines
from mmllm_cli.output_files import check_can_write, write_whole
from mmllm_cli.picture_tasks import PictureOutcome, picture_outcomes
from mmllm_cli.result_rows import Verdict, judge, result_row, spoken
from mmllm_cli.tables import aligned
from mobile_multimodal.errors import ImageError, MmllmError, UsageError
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.results import Box, GenerationConfig, TaskRequest, TaskResult, TextRegion


def box(top: float) -> Box:
    return ((0.0, top), (80.0, top), (80.0, top + 10), (0.0, top + 10))


LINES = (
    TextRegion("sure", box(0), 0.9),
    TextRegion("unsure", box(20), 0.4),
    TextRegion("also sure", box(40), 0.8),
)
READ = TaskResult("ocr", "sure\nunsure\nalso sure", 0.7, regions=LINES)
OUTCOME = PictureOutcome(
    InputPicture("a.png", "file"), LoadedImage(np.zeros((2, 2, 3), np.uint8), "a.png"), read_ms=1.23456
)


def test_a_caption_is_taken_back_whole() -> None:
    caption = TaskResult("caption", "A dog.", 0.5)
    assert judge(caption, 0.0).is_sure
    assert judge(caption, 0.5).is_sure
    unsure = judge(caption, 0.51)
    assert not unsure.is_sure
    assert result_row(OUTCOME, unsure, "m")["text"] is None
    assert spoken(unsure, with_confidence=True) == "not sure (confidence 0.50 is below 0.51)"


@pytest.mark.parametrize(
    ("confidence", "limit", "words"),
    [
        (0.9996, 1.0, "confidence 0.9996 is below 1.0000"),
        (0.501, 0.502, "confidence 0.501 is below 0.502"),
        (0.1, 0.9, "confidence 0.10 is below 0.90"),
    ],
)
def test_what_is_below_is_seen_to_be_below(confidence: float, limit: float, words: str) -> None:
    verdict = judge(TaskResult("caption", "A dog.", confidence), limit)
    assert spoken(verdict, with_confidence=False) == f"not sure ({words})"


def test_read_lines_are_taken_back_one_by_one() -> None:
    verdict = judge(READ, 0.5)
    assert verdict.is_sure
    assert verdict.result.text == "sure\nalso sure"
    assert verdict.result.confidence == pytest.approx((4 * 0.9 + 9 * 0.8) / 13)
    assert [region.text for region in verdict.result.regions or ()] == ["sure", "also sure"]
    assert not judge(READ, 0.95).is_sure
    assert judge(READ, 0.95).result.regions == ()


def test_no_text_is_not_an_abstention() -> None:
    nothing = TaskResult("ocr", "", None, regions=())
    assert judge(nothing, 0.9).is_sure
    assert result_row(OUTCOME, judge(nothing, 0.9), "m")["text"] == ""


def test_a_row_is_plain_json() -> None:
    row = result_row(OUTCOME, Verdict(READ, True, 0.0), "mmllm-base")
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert row["timings_ms"] == {"read": 1.235}
    assert row["regions"][1] == {
        "text": "unsure",
        "box": [[0.0, 20.0], [80.0, 20.0], [80.0, 30.0], [0.0, 30.0]],
        "confidence": 0.4,
    }


class OneFails:
    """Refuses every batch that holds a picture called ``bad``, and counts its calls."""

    def __init__(self, error: Exception) -> None:
        self.calls: list[int] = []
        self.error = error

    def run(
        self,
        images: Sequence[LoadedImage],
        requests: Sequence[TaskRequest],
        generation: GenerationConfig | None = None,
    ) -> list[list[TaskResult]]:
        self.calls.append(len(images))
        if any("bad" in image.source for image in images):
            raise self.error
        return [[TaskResult("caption", image.source, 0.5)] for image in images]


@pytest.mark.parametrize("error", [ImageError("this one cannot be read"), MemoryError()], ids=type)
def test_one_failure_in_a_batch_leaves_the_others(tmp_path: Path, photo: Path, error: Exception) -> None:
    names = ["a.jpg", "bad.jpg", "b.jpg", "missing.jpg", "c.jpg"]
    for name in names:
        if name != "missing.jpg":
            (tmp_path / name).write_bytes(photo.read_bytes())
    pictures = [InputPicture(str(tmp_path / name), "file") for name in names]
    model = OneFails(error)
    request = [TaskRequest("caption")]
    outcomes = list(picture_outcomes(model, pictures, request, GenerationConfig(), batch_size=4))
    assert [outcome.picture for outcome in outcomes] == pictures
    assert [outcome.error is None for outcome in outcomes] == [True, False, True, False, True]
    assert isinstance(outcomes[1].error, ImageError)
    assert outcomes[2].results[0].text.endswith("b.jpg")
    assert model.calls == [3, 1, 1, 1, 1]


def test_control_characters_of_a_file_name_do_not_reach_the_terminal() -> None:
    assert one_line("a\nb\x1b[31mc\u2028d\u202ee.jpg") == "a b[31mcde.jpg"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_survives_every_encoding_and_file_name(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding=encoding))
    row = {"image": os.fsdecode(b"caf\xe9.jpg"), "text": "Größe"}
    print_json(row)
    assert json.loads(buffer.getvalue()) == row


def test_not_a_number_is_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="JSON"):
        print_json({"confidence": float("nan")})
    assert capsys.readouterr().out == ""


def test_only_a_terminal_gets_dim_text(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert dim("(0.50)", io.StringIO()) == "(0.50)"
    assert dim("(0.50)", Terminal()) == "\x1b[2m(0.50)\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert dim("(0.50)", Terminal()) == "(0.50)"


def test_columns_line_up() -> None:
    assert aligned([("name", "bytes", "what"), ("a", "12", "x"), ("long", "1,234", "yy")]) == [
        "name  bytes  what",
        "a        12  x",
        "long  1,234  yy",
    ]
    assert aligned([]) == []


def test_information_is_laid_out() -> None:
    parts = [
        {"name": "encoder", "bytes": 5, "inputs": [{"dtype": "uint8"}]},
        {"name": "decoder", "bytes": 700},
    ]
    info = {"name": "m", "bytes": 2 * 2**20, "components": parts, "versions": {"python": "3.11"}}
    assert info_lines(info) == [
        "name   m",
        "bytes  2,097,152 (2.0 MiB)",
        "",
        "components",
        "  name     bytes",
        "  encoder      5",
        "  decoder    700",
        "",
        "versions",
        "  python  3.11",
    ]


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.json"]
    with pytest.raises(MmllmError, match="cannot be written"):
        write_whole(tmp_path / "missing" / "out.json", b"three")


@pytest.mark.parametrize("name", ["", "missing/out.png"])
def test_a_place_that_cannot_be_written_is_refused_early(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        check_can_write(tmp_path / name)
