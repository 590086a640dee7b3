"""``mmllm batch`` through a real process: every kind of data set in, JSON lines and Parquet out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mmllm_cli.app import app
from mmllm_cli.errors_to_exit import run_app
from mobile_multimodal.bundle import ModelBundle
from tests.mmllm_cli.batch_data import (
    EXAMPLES,
    PICTURES,
    read_rows,
    untimed,
    write_folder,
    write_lines,
    write_parquet_data,
)
from tests.mmllm_cli.conftest import CommandLine, Finished, only_one_line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("batch") / "photos")


@pytest.fixture(scope="module")
def of_the_folder(mmllm: CommandLine, folder: Path) -> tuple[Finished, list[dict[str, Any]]]:
    output = folder.parent / "rows.jsonl"
    done = mmllm("batch", folder, output, "--task", "caption", "--workers", "2", "--json")
    return done, read_rows(output)


@pytest.fixture(scope="module")
def captions(mmllm: CommandLine) -> list[dict[str, Any]]:
    """What ``mmllm caption`` says of the example pictures."""
    return [untimed(row) for row in mmllm("caption", "--json", *[EXAMPLES / name for name in PICTURES]).rows]


def test_rows_are_those_of_caption_errors_too(
    mmllm: CommandLine, folder: Path, of_the_folder: tuple[Finished, list[dict[str, Any]]]
) -> None:
    done, rows = of_the_folder
    captioned = mmllm("caption", "-r", folder, "--json")
    assert done.code == captioned.code == 3
    assert rows == [untimed(row) for row in captioned.rows]
    assert len(rows) == 11
    assert [Path(row["image"]).name for row in rows if "error" in row] == ["words.jpg", "cut.jpg"]


def test_what_was_done_is_said(of_the_folder: tuple[Finished, list[dict[str, Any]]], folder: Path) -> None:
    done, _ = of_the_folder
    [summary] = done.rows
    assert (summary["rows"], summary["computed"], summary["failed"]) == (11, 11, 2)
    assert (summary["engine"], summary["workers"], summary["format"]) == ("local", 2, "jsonl")
    assert summary["images_per_s"] == pytest.approx(11 / summary["seconds"], rel=0.01)
    speed, failures = done.error_lines
    assert speed.startswith("mmllm: 11 images in ")
    assert speed.endswith(" images/s (local, 2 workers)")
    assert "2 of 11 rows have an error" in failures
    assert "words.jpg is not an image" in failures
    assert sorted(path.name for path in folder.parent.iterdir()) == ["photos", "rows.jsonl"]


def test_a_list_names_pictures_from_its_own_folder(
    mmllm: CommandLine, captions: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "here.jpg").write_bytes((EXAMPLES / PICTURES[0]).read_bytes())
    lines = ["here.jpg", "", f"{EXAMPLES / PICTURES[1]}\r", "https://example.com/a.jpg", "gone.jpg"]
    source, output = write_lines(tmp_path / "list.txt", lines), tmp_path / "rows.jsonl"
    done = mmllm("batch", source, output, "--task", "caption", "--workers", "1")
    assert (done.code, done.out) == (3, "")
    rows = read_rows(output)
    assert [row["image"] for row in rows] == ["here.jpg", captions[1]["image"], *lines[3:]]
    assert rows[0]["text"] == captions[0]["text"]
    assert rows[1] == captions[1]
    assert rows[2]["error"]["remedy"] == "fetch it first: mmllm batch reads files"
    assert rows[3]["error"]["message"] == "gone.jpg does not exist"


def test_several_tasks_are_those_of_run(mmllm: CommandLine, tmp_path: Path) -> None:
    pictures = [EXAMPLES / "sign.jpg", EXAMPLES / "dog.jpg"]
    source = write_lines(tmp_path / "list.txt", [str(path) for path in pictures])
    asked = ("--task", "caption,ocr,vqa", "--question", "what is it?")
    for name in ("rows.jsonl", "rows.parquet"):
        done = mmllm("batch", source, tmp_path / name, *asked, "--workers", "1")
        assert done.code == 0, done.err
    rows = read_rows(tmp_path / "rows.jsonl")
    assert rows == [untimed(row) for row in mmllm("run", "--json", *asked, *pictures).rows]
    assert [len(row["results"]) for row in rows] == [3, 3]
    assert rows[0]["results"][1]["regions"]
    assert read_rows(tmp_path / "rows.parquet") == rows


def test_every_row_has_its_own_question(mmllm: CommandLine, tmp_path: Path) -> None:
    cows, dog = str(EXAMPLES / "cows.jpg"), str(EXAMPLES / "dog.jpg")
    questions = ["what color are the cows?", "what animal is this?"]
    lines: list[Any] = [
        {"image": cows, "question": questions[0]},
        {"image": dog, "question": questions[1]},
        {"image": cows, "question": questions[1]},
        {"image": dog, "question": "  "},
        {"image": dog},
        {"picture": dog},
        {"image": 7, "question": questions[0]},
        "no JSON",
    ]
    source, output = write_lines(tmp_path / "questions.jsonl", lines), tmp_path / "answers.jsonl"
    assert mmllm("batch", source, output, "--task", "vqa", "--workers", "1").code == 3
    rows = read_rows(output)
    for row, (image, question) in zip(
        rows, [(cows, questions[0]), (dog, questions[1]), (cows, questions[1])], strict=False
    ):
        assert row == untimed(mmllm("vqa", image, question, "--json").rows[0])
    assert [row["error"]["message"] for row in rows[3:]] == [
        "the question is empty",
        f"{source}:5 has no question",
        f"{source}:6 has no field 'image'",
        f"{source}:7 names no picture",
        f"{source}:8 is not JSON",
    ]
    again = mmllm("batch", source, output, "--task", "vqa", "-q", questions[1], "--force", "--workers", "1")
    assert again.code == 3
    assert {row["question"] for row in read_rows(output) if "error" not in row} == {questions[1]}


def test_parquet_of_paths_of_bytes_and_of_both(
    mmllm: CommandLine, captions: list[dict[str, Any]], tmp_path: Path
) -> None:
    content = [(EXAMPLES / name).read_bytes() for name in PICTURES]
    paths = [str(EXAMPLES / name) for name in PICTURES]
    both: list[Any] = [
        {"bytes": content[0], "path": "one.jpg"},
        {"bytes": None, "path": paths[1]},
        {"bytes": content[2], "path": None},
        None,
    ]
    expected = {
        "paths": captions,
        "bytes": [row | {"image": f"bytes.parquet#{n}"} for n, row in enumerate(captions)],
        "both": [
            captions[0] | {"image": "one.jpg"},
            captions[1],
            captions[2] | {"image": "both.parquet#2"},
        ],
    }
    for name, column in (("paths", paths), ("bytes", content), ("both", both)):
        source = write_parquet_data(tmp_path / f"{name}.parquet", {"picture": column})
        output = tmp_path / f"{name}.out"
        arguments = ("--image-column", "picture", "--format", "parquet", "--workers", "1")
        done = mmllm("batch", source, output, "--task", "caption", *arguments)
        rows = read_rows(output.rename(output.with_suffix(".out.parquet")))
        assert rows[: len(expected[name])] == expected[name]
        assert done.code == (3 if name == "both" else 0)
    assert rows[3]["error"]["message"] == "both.parquet#3 names no picture"


def test_a_name_that_is_no_unicode_is_written_in_both_formats(mmllm: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.jpg\n")
    for name in ("rows.jsonl", "rows.parquet"):
        assert mmllm("batch", tmp_path / "list.txt", tmp_path / name, "--task", "caption").code == 3
    assert read_rows(tmp_path / "rows.jsonl")[0]["image"] == "caf\udce9.jpg"
    assert read_rows(tmp_path / "rows.parquet")[0]["image"] == "caf\\udce9.jpg"


# What stands in a folder with list.txt, rows.csv, empty.txt, photo.jpg, done.jsonl, text.parquet, and
# numbers.parquet: what is asked, the exit code, and the line.
REFUSED = [
    ("gone.txt out.jsonl --task caption", 2, "gone.txt does not exist"),
    ("photo.jpg out.jsonl --task caption", 2, "is a picture, not a data set (mmllm caption "),
    ("rows.csv out.jsonl --task caption", 2, "give a directory, .txt, .jsonl or .parquet"),
    ("empty.txt out.jsonl --task caption", 3, "empty.txt holds no rows"),
    ("empty out.jsonl --task caption", 3, "holds no pictures"),
    ("text.parquet out.jsonl --task caption", 3, "text.parquet cannot be read: "),
    ("numbers.parquet out.jsonl --task caption", 2, "'image' of "),
    ("numbers.parquet out.jsonl --task caption --image-column photo", 2, "has no column 'photo', only image"),
    ("list.txt out.jsonl --task caption --image-column photo", 2, "has no columns"),
    (
        "list.txt out --task caption",
        2,
        "names no format (give it the suffix .jsonl or .parquet, or --format)",
    ),
    ("list.txt out --task caption --format csv", 2, "unknown format 'csv' (one of jsonl, parquet)"),
    ("list.txt out.jsonl --task caption,smell", 2, "unknown task 'smell' (one of caption, ocr, vqa)"),
    ("list.txt out.jsonl --task ,", 2, "no task is given"),
    ("list.txt out.jsonl --task vqa", 2, "task 'vqa' needs a question"),
    ("list.txt out.jsonl --task vqa --question ?", 2, "the question is empty"),
    ("list.txt out.jsonl --task caption --question why", 2, "--task does not name vqa"),
    ("list.txt out.jsonl --task caption --engine spark", 2, "unknown engine 'spark' (one of local, dask)"),
    ("list.txt out.jsonl --task caption --address 127.0.0.1:1", 2, "(add --engine dask)"),
    ("list.txt out.jsonl --task caption --engine dask --address here", 2, "'here' is not HOST:PORT"),
    ("list.txt out.jsonl --task caption --engine dask --address h:1 --workers 2", 2, "leave --workers or"),
    ("list.txt out.jsonl --task caption --resume --force", 2, "give one of them"),
    ("list.txt done.jsonl --task caption", 2, "done.jsonl exists (--force replaces it)"),
    ("list.txt done.jsonl --task caption --resume", 2, "done.jsonl exists (--force replaces it)"),
    ("done.jsonl done.jsonl --task caption --force", 2, "is the data set itself"),
    ("list.txt nowhere/out.jsonl --task caption", 2, "nowhere does not exist"),
    ("list.txt out.jsonl --task caption --model nobody", 2, "'nobody' is neither a packaged model nor"),
]


@pytest.mark.parametrize(("asked", "code", "said"), REFUSED, ids=[asked for asked, *_ in REFUSED])
def test_what_cannot_work_is_one_line_and_leaves_nothing(
    asked: str,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "list.txt", ["photo.jpg"])
    for name in ("rows.csv", "done.jsonl", "text.parquet"):
        (tmp_path / name).write_text("image\nphoto.jpg\n")
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "photo.jpg").write_bytes((EXAMPLES / "dog.jpg").read_bytes())
    write_parquet_data(tmp_path / "numbers.parquet", {"image": [1, 2]})
    before = sorted(tmp_path.iterdir())
    assert run_app(app, ["batch", *asked.split()]) == code
    assert said in only_one_line(capsys.readouterr().err.splitlines())
    assert sorted(tmp_path.iterdir()) == before


def test_a_model_without_a_reader_is_refused_before_the_work(
    tiny_bundle: ModelBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_lines(tmp_path / "list.txt", ["photo.jpg"])
    arguments = ["--task", "ocr", "--model", str(tiny_bundle.directory), "--backend", "torch"]
    assert run_app(app, ["batch", str(source), str(tmp_path / "out.jsonl"), *arguments]) == 2
    assert "'tiny' cannot read text" in only_one_line(capsys.readouterr().err.splitlines())


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("pyarrow", ["list.txt", "out.parquet"]),
        ("pyarrow", ["data.parquet", "out.jsonl"]),
        ("dask", ["list.txt", "out.jsonl", "--engine", "dask"]),
    ],
)
def test_a_missing_extra_is_one_line(
    package: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "list.txt", ["photo.jpg"])
    write_parquet_data(tmp_path / "data.parquet", {"image": ["photo.jpg"]})
    monkeypatch.setitem(sys.modules, package, None)
    for module in ("batch_parquet", "batch_dask"):
        monkeypatch.delitem(sys.modules, f"mmllm_cli.{module}", raising=False)
        monkeypatch.delattr(f"mmllm_cli.{module}", raising=False)
    assert run_app(app, ["batch", *arguments, "--task", "caption", "--json"]) == 3
    said = capsys.readouterr()
    assert "is not installed (pip install 'mmllm[batch]')" in only_one_line(said.err.splitlines())
    assert json.loads(said.out)["error"]["type"] == "MissingExtraError"
    assert not list(tmp_path.glob("out*"))
