"""Arguments that can never work: one line, exit 2, the valid names listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmllm_cli.app import app
from mmllm_cli.errors_to_exit import run_app, wants_json
from tests.mmllm_cli.conftest import CommandLine, only_one_line

USAGE_ERRORS: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "Missing command"),
    "an unknown command": (
        ["capt"],
        "one of caption, ocr, vqa, run, batch, quantize, export, analyze, eval, benchmark, compare",
    ),
    "no picture": (["caption"], "Missing argument"),
    "an unknown option": (["caption", "PHOTO", "--modle", "x"], "No such option: --modle"),
    "no threads": (["caption", "PHOTO", "--threads", "0"], "--threads"),
    "more threads than cores anywhere": (
        ["caption", "PHOTO", "--threads", "100000"],
        "less than or equal to 256",
    ),
    "a beam too wide": (["caption", "PHOTO", "--beam", "9"], "beam width 9 is outside 1..8"),
    "too many tokens": (["caption", "PHOTO", "--max-tokens", "65"], "max tokens 65 is outside 1..64"),
    "a confidence above 1": (["caption", "PHOTO", "--min-confidence", "1.5"], "--min-confidence"),
    "an unknown backend": (["caption", "PHOTO", "--backend", "tpu"], "onnxruntime"),
    "an unknown model": (["caption", "PHOTO", "--model", "mmllm-huge"], "mmllm-base"),
    "an unknown task": (["run", "PHOTO", "--task", "caption,sing"], "one of caption, ocr, vqa"),
    "no task": (["run", "PHOTO", "--task", ","], "no task is given"),
    "vqa without a question": (["run", "PHOTO", "--task", "vqa"], "the question is empty"),
    "a question without vqa": (["run", "PHOTO", "-q", "what?"], "does not name vqa"),
    "an unknown format": (["ocr", "PHOTO", "--format", "pdf"], "one of text, json, tsv, hocr"),
    "a page of two": (["ocr", "PHOTO", "PHOTO", "--format", "hocr"], "takes one picture"),
    "two drawings": (["ocr", "PHOTO", "PHOTO", "--annotate", "out.png"], "takes one picture"),
    "a drawing in words": (["ocr", "PHOTO", "--annotate", "out.txt"], "one of .png"),
    "a drawing nowhere": (["ocr", "PHOTO", "--annotate", "no/where/out.png"], "does not exist"),
    "no question": (["vqa", "PHOTO"], "a picture and a question are needed"),
    "a file for a question": (["vqa", "PHOTO", "PHOTO"], "the last argument must be the question"),
    "a missing file for a question": (["vqa", "PHOTO", "gone.JPG"], "the last argument must be the question"),
    "a drawing over its picture": (["ocr", "PHOTO", "--annotate", "PHOTO"], "is the picture itself"),
    "a URL for a question": (
        ["vqa", "PHOTO", "https://example.org/"],
        "the last argument must be the question",
    ),
    "an unknown option of no command": (["--loud"], "see mmllm --help"),
    "an empty question": (["vqa", "PHOTO", ""], "the question is empty"),
    "a blank question": (["vqa", "PHOTO", "  "], "the question is empty"),
    "a long question": (["vqa", "PHOTO", "why? " * 2000], "the question has 10,000 characters"),
    "standard input twice": (["caption", "-", "-"], "given twice"),
}


def filled(arguments: list[str], photo: Path) -> list[str]:
    return [str(photo) if argument == "PHOTO" else argument for argument in arguments]


@pytest.mark.parametrize("case", USAGE_ERRORS)
def test_a_usage_error_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], photo: Path, case: str
) -> None:
    arguments, words = USAGE_ERRORS[case]
    assert run_app(app, filled(arguments, photo)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    line = only_one_line(printed.err.splitlines())
    assert line.startswith("mmllm: ")
    assert words in line


@pytest.mark.parametrize("case", ["nothing", "an unknown command", "an unknown model", "a long question"])
def test_the_same_through_a_process(mmllm: CommandLine, photo: Path, case: str) -> None:
    arguments, words = USAGE_ERRORS[case]
    done = mmllm(*filled(arguments, photo))
    assert (done.code, done.out) == (2, "")
    assert words in only_one_line(done.error_lines)


@pytest.mark.parametrize(
    "arguments",
    [
        ["caption", "--json"],
        ["vqa", "PHOTO", "", "--json"],
        ["ocr", "PHOTO", "--format", "tsv", "--json"],
        ["ocr", "PHOTO", "PHOTO", "--format=json", "--annotate", "out.png"],
    ],
)
def test_with_json_a_usage_error_is_a_document_too(
    capsys: pytest.CaptureFixture[str], photo: Path, arguments: list[str]
) -> None:
    assert run_app(app, filled(arguments, photo)) == 2
    printed = capsys.readouterr()
    error = json.loads(printed.out)["error"]
    assert error["type"] == "UsageError"
    assert error["message"] in only_one_line(printed.err.splitlines())
    assert set(error) == {"type", "message", "remedy"}


def test_json_is_recognised_in_arguments_that_may_be_wrong() -> None:
    assert wants_json(["caption", "--json"])
    assert wants_json(["ocr", "-f", "json"])
    assert wants_json(["ocr", "-fjson"])
    assert wants_json(["ocr", "--format=json"])
    assert not wants_json(["ocr", "--format", "tsv"])
    assert not wants_json(["vqa", "photo.jpg", "where is json?"])
    assert not wants_json(["vqa", "photo.jpg", "does it say --json here?"])
