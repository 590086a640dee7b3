"""Runs of ``mmllm batch`` that end early, real processes that are interrupted or killed, and what is kept.

A picture that is a pipe holds a worker until its other end is opened and closed: no test waits for a
moment that may not come.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from mmllm_cli.batch_inputs import open_data_set, read_blocks
from mmllm_cli.batch_partial import PartialFile
from mobile_multimodal.errors import DataError, MmllmError, UsageError
from tests.mmllm_cli.batch_data import EXAMPLES, PICTURES, read_rows, write_lines, write_parquet_data
from tests.mmllm_cli.conftest import CommandLine, only_one_line

if sys.platform == "win32":
    pytest.skip("no named pipes on Windows", allow_module_level=True)

ONE_WORKER = ("--task", "caption", "--workers", "1")


@contextmanager
def held_at(pipe: Path) -> Iterator[None]:
    """Until a worker reads the pipe; it is let go of at the end, and reads nothing."""
    with pipe.open("wb"):  # opens when the other side does
        yield


def pictures(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{number:02}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes((EXAMPLES / PICTURES[number % len(PICTURES)]).read_bytes())
    return paths


def worker_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    [worker] = [
        child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())
    ]
    return worker


@pytest.fixture
def interrupted(mmllm: CommandLine, tmp_path: Path) -> tuple[list[Path], list[str]]:
    """Twenty pictures of which two blocks were done, and what the process said."""
    paths = pictures(tmp_path, 20)
    paths[17].unlink()
    os.mkfifo(paths[17])
    source = write_lines(tmp_path / "list.txt", [path.name for path in paths])
    process = mmllm.start("batch", source, tmp_path / "rows.jsonl", *ONE_WORKER)
    with held_at(paths[17]):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert not (tmp_path / "rows.jsonl").exists()
    paths[17].unlink()
    paths[17].write_bytes(paths[5].read_bytes())
    return paths, err.decode().splitlines()


def test_an_interrupted_run_goes_on_where_it_was(
    mmllm: CommandLine, interrupted: tuple[list[Path], list[str]], tmp_path: Path
) -> None:
    paths, (kept, end) = interrupted
    assert end == "mmllm: interrupted"
    said = "mmllm: 16 of 20 rows are kept in "
    assert kept.startswith(said)
    command = shlex.split(kept.partition("; go on with: ")[2])
    whole = tmp_path / "whole.jsonl"
    assert mmllm("batch", tmp_path / "list.txt", whole, *ONE_WORKER).code == 0
    for path in paths[:16]:  # computed again they would be errors
        path.write_bytes(b"nothing any more")
    # The last line of a process that was killed while it wrote.
    with (tmp_path / "rows.jsonl.partial").open("a") as file:
        file.write('{"block": 2, "ro')
    assert command[0] == "mmllm"
    done = mmllm(*command[1:], "--json")
    assert done.code == 0, done.err
    [summary] = done.rows
    assert (summary["rows"], summary["computed"]) == (20, 4)
    assert only_one_line(done.error_lines).endswith("; 16 were kept from before")
    assert read_rows(tmp_path / "rows.jsonl") == read_rows(whole)
    assert not (tmp_path / "rows.jsonl.partial").exists()


def test_rows_of_another_run_are_never_mixed_in(
    mmllm: CommandLine, interrupted: tuple[list[Path], list[str]], tmp_path: Path
) -> None:
    paths, _ = interrupted
    source, output = tmp_path / "list.txt", tmp_path / "rows.jsonl"
    partial = output.with_name("rows.jsonl.partial")
    before = partial.read_bytes()

    def refused(*arguments: str) -> str:
        done = mmllm("batch", source, output, "--workers", "1", *arguments)
        assert done.code == 2
        return only_one_line(done.error_lines)

    assert "--resume goes on with it, --force starts anew" in refused("--task", "caption")
    assert "begun with another task: caption, not ocr" in refused("--task", "ocr", "--resume")
    other = refused("--task", "caption", "--resume", "--model", "mmllm-base-int2")
    assert "begun with another model: mmllm-base, sha256 " in other
    assert "another min confidence: null, not 0.5 (repeat the command" in refused(
        "--task", "caption", "--resume", "--min-confidence", "0.5"
    )
    write_lines(source, [path.name for path in paths[1:]])
    assert "begun with another data set: 20 rows, " in refused("--task", "caption", "--resume")
    assert partial.read_bytes() == before
    write_lines(source, [path.name for path in paths[:3]])
    assert mmllm("batch", source, output, *ONE_WORKER, "--force").code == 0
    assert [row["image"] for row in read_rows(output)] == [path.name for path in paths[:3]]
    assert not partial.exists()


def test_a_question_is_part_of_what_must_match(tmp_path: Path) -> None:
    path = tmp_path / "partial"
    with PartialFile(path, {"question": "why?"}, resume=False, force=False) as kept:
        kept.write(0, [{"image": "a"}])
    with pytest.raises(UsageError, match=r"another question: why\?, not how\?"):
        PartialFile(path, {"question": "how?"}, resume=True, force=False)


def test_an_interrupt_before_the_first_block_leaves_nothing(mmllm: CommandLine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    source = write_lines(tmp_path / "list.txt", ["pipe"])
    process = mmllm.start("batch", source, tmp_path / "rows.jsonl", *ONE_WORKER)
    with held_at(tmp_path / "pipe"):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert err.decode().splitlines() == ["mmllm: interrupted"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.txt", "pipe"]


def test_a_picture_that_ends_workers_costs_its_own_row_alone(mmllm: CommandLine, tmp_path: Path) -> None:
    paths = pictures(tmp_path, 10)
    paths[3].unlink()
    os.mkfifo(paths[3])
    source, output = (
        write_lines(tmp_path / "list.txt", [path.name for path in paths]),
        tmp_path / "rows.jsonl",
    )
    process = mmllm.start("batch", source, output, *ONE_WORKER)
    for _ in range(2):  # in its block, then alone
        with held_at(paths[3]):
            worker = worker_of(process)
            worker.kill()
            worker.wait(timeout=300)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 3, err
    rows = read_rows(output)
    assert [row["image"] for row in rows] == [path.name for path in paths]
    assert [row["image"] for row in rows if "error" in row] == ["03.jpg"]
    assert rows[3]["error"]["message"] == "03.jpg: a worker's process ended at it"


def test_two_runs_never_write_one_output(mmllm: CommandLine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    source, output = write_lines(tmp_path / "list.txt", ["pipe"]), tmp_path / "rows.jsonl"
    process = mmllm.start("batch", source, output, *ONE_WORKER)
    with held_at(tmp_path / "pipe"):
        for option in ("--resume", "--force"):
            done = mmllm("batch", source, output, *ONE_WORKER, option)
            assert done.code == 2
            assert "another run is writing " in only_one_line(done.error_lines)
    process.communicate(timeout=300)
    assert process.returncode == 3
    assert read_rows(output)[0]["error"]["message"] == "pipe is empty (0 bytes)"


def test_a_full_disk_keeps_what_was_written(tmp_path: Path) -> None:
    path, run = tmp_path / "partial", {"task": "caption"}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with PartialFile(path, run, resume=False, force=False) as kept:
            kept.write(0, [{"image": "a"}])
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
            with pytest.raises(MmllmError, match="partial cannot be written: File too large"):
                kept.write(1, [{"image": "b" * 10_000}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    with PartialFile(path, run, resume=True, force=False) as kept:
        assert list(kept.rows()) == [{"image": "a"}]
        kept.write(1, [{"image": "b"}])
    with PartialFile(path, run, resume=True, force=False) as kept:
        assert list(kept.rows()) == [{"image": "a"}, {"image": "b"}]


@pytest.mark.parametrize("line", ["no JSON", "[]", '{"block": 1}', '{"block": "1", "rows": []}'])
def test_a_damaged_partial_file_is_said(line: str, tmp_path: Path) -> None:
    path, run = tmp_path / "partial", {"task": "caption"}
    with PartialFile(path, run, resume=False, force=False) as kept:
        kept.write(0, [{"image": "a"}])
    with path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(DataError, match=r"is damaged in line 3 \(--force starts anew\)"):
        PartialFile(path, run, resume=True, force=False)


def test_blocks_come_back_in_order(tmp_path: Path) -> None:
    path, run = tmp_path / "partial", {"task": "caption"}
    with PartialFile(path, run, resume=False, force=False) as kept:
        for block in (2, 0, 1):
            kept.write(block, [{"image": str(block)}])
        assert [row["image"] for row in kept.rows()] == ["0", "1", "2"]
    assert [json.loads(line).get("block") for line in path.read_text().splitlines()] == [None, 2, 0, 1]


@pytest.mark.parametrize("group", [3, 5, 8, 16, 100])
def test_only_unfinished_rows_of_a_parquet_are_worked_on(group: int, tmp_path: Path) -> None:
    content: list[Any] = [bytes([number]) for number in range(43)]
    source = write_parquet_data(tmp_path / "data.parquet", {"image": content}, group=group)
    data_set = open_data_set(source, image_column=None, question=None, asks=False)
    assert (data_set.rows, data_set.blocks) == (43, 6)
    for finished in (set(), {0}, {1, 2}, {5}, {0, 2, 4}, {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4, 5}):
        blocks = {block.number: block for block in read_blocks(data_set, finished.__contains__)}
        assert list(blocks) == sorted(set(range(6)) - finished)
        for number, block in blocks.items():
            assert [item.data for item in block.items] == content[8 * number : 8 * number + 8]


def test_a_parquet_that_was_changed_is_another_data_set(tmp_path: Path) -> None:
    digests = set()
    for last in (b"a", b"b"):
        source = write_parquet_data(tmp_path / "data.parquet", {"image": [b"x", last]})
        digests.add(open_data_set(source, image_column=None, question=None, asks=False).sha256)
    assert len(digests) == 2
