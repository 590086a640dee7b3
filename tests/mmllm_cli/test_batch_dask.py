"""``mmllm batch --engine dask``: a cluster of its own, and an existing scheduler, as real processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import pytest

from mmllm_cli.app import app
from mmllm_cli.batch_dask import DaskEngine, scheduler_address
from mmllm_cli.batch_inputs import BatchItem, Block
from mmllm_cli.batch_worker import BatchSetup
from mmllm_cli.errors_to_exit import run_app
from mobile_multimodal.bundle import find_model
from mobile_multimodal.errors import BundleError, UsageError
from mobile_multimodal.results import GenerationConfig
from tests.mmllm_cli.batch_data import read_rows, write_folder, write_lines
from tests.mmllm_cli.conftest import ROOT, CommandLine, only_one_line

SCHEDULER = r"Scheduler at:\s+tcp://(127\.0\.0\.1:\d+)"
ESTABLISHED = "Starting established connection"


@contextmanager
def running(mmllm: CommandLine, *arguments: str, until: str, cwd: Path = ROOT) -> Iterator[re.Match[str]]:
    """A Dask process, from the line of its log that says it is ready."""
    command = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
    process = subprocess.Popen(
        command, cwd=cwd, env=mmllm.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    log = ""
    try:
        for line in process.stderr:
            log += line
            if found := re.search(until, line):
                yield found
                return
        raise AssertionError(log)
    finally:
        # A worker has a process of its own, which would live on for a while.
        for child in (*psutil.Process(process.pid).children(recursive=True), process):
            child.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("batch") / "photos")


@pytest.fixture(scope="module")
def local_rows(mmllm: CommandLine, folder: Path) -> list[dict[str, object]]:
    output = folder.parent / "local.jsonl"
    assert mmllm("batch", folder, output, "--task", "caption", "--workers", "1").code == 3
    return read_rows(output)


@pytest.fixture(scope="module")
def scheduler(mmllm: CommandLine) -> Iterator[str]:
    arguments = ("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    with running(mmllm, *arguments, until=SCHEDULER) as found:
        yield found[1]


def test_a_cluster_of_its_own(
    mmllm: CommandLine, folder: Path, local_rows: list[dict[str, object]], tmp_path: Path
) -> None:
    output = tmp_path / "rows.parquet"
    arguments = ("--task", "caption", "--engine", "dask", "--workers", "2", "--json")
    done = mmllm("batch", folder, output, *arguments)
    assert done.code == 3
    assert read_rows(output) == local_rows
    [summary] = done.rows
    assert (summary["engine"], summary["workers"]) == ("dask", 2)
    speed, failures = done.error_lines
    assert " (dask, 2 workers)" in speed
    assert "2 of 11 rows have an error" in failures


def test_the_workers_of_an_existing_scheduler_need_no_files(
    mmllm: CommandLine,
    folder: Path,
    local_rows: list[dict[str, object]],
    scheduler: str,
    tmp_path: Path,
) -> None:
    # A relative path: workers that looked for the files in their own folder would find none.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    lines = [str(row["image"]).removeprefix(f"{folder.parent}/") for row in local_rows]
    source = write_lines(folder.parent / "list.txt", [*lines, "photos/gone.jpg"])
    output = tmp_path / "rows.jsonl"
    with ExitStack() as stack:
        for _ in range(2):
            worker = ("worker", scheduler, "--nthreads", "1", "--no-dashboard")
            stack.enter_context(running(mmllm, *worker, until=ESTABLISHED, cwd=elsewhere))
        asked = ("--task", "caption", "--engine", "dask", "--address", scheduler, "--json")
        done = mmllm("batch", source, output, *asked)
        assert done.code == 3, done.err
        assert done.rows[0]["workers"] == 2
        # The scheduler and its workers are there for the next.
        assert mmllm("batch", source, output, *asked, "--force").code == 3
    rows = read_rows(output)
    assert rows[-1]["error"]["message"] == "photos/gone.jpg does not exist"
    for row, expected, name in zip(rows, local_rows, lines, strict=False):
        assert row["image"] == name
        assert row.get("text") == expected.get("text")
        assert row.get("confidence") == expected.get("confidence")
        assert ("error" in row) == ("error" in expected)


def test_a_model_directory_and_a_worker_of_two_threads(
    mmllm: CommandLine, folder: Path, local_rows: list[dict[str, object]], scheduler: str, tmp_path: Path
) -> None:
    model = find_model(None, "onnxruntime")
    with running(mmllm, "worker", scheduler, "--nthreads", "2", "--no-dashboard", until=ESTABLISHED):
        asked = ("--task", "caption", "--engine", "dask", "--address", scheduler, "--model", model)
        assert mmllm("batch", folder, tmp_path / "rows.jsonl", *asked).code == 3
        assert read_rows(tmp_path / "rows.jsonl") == local_rows
        setup = BatchSetup(None, "onnxruntime", "0" * 64, ("caption",), GenerationConfig(), None)
        blocks = iter([Block(0, (BatchItem("dog.jpg", data=b"never looked at"),))])
        with closing(DaskEngine(setup, 1, scheduler)) as engine:
            found = engine.results(lambda: next(blocks, None))
            with pytest.raises(
                BundleError, match=r"a worker has another 'mmllm-base': [0-9a-f]{12}, not 0000"
            ):
                next(found)


def test_a_scheduler_that_goes_away(mmllm: CommandLine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    source = write_lines(tmp_path / "list.txt", ["gone.jpg", "pipe"])
    arguments = ("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    with ExitStack() as stack:
        scheduler = stack.enter_context(running(mmllm, *arguments, until=SCHEDULER))
        with running(mmllm, "worker", scheduler[1], "--no-dashboard", until=ESTABLISHED):
            asked = ("--task", "caption", "--engine", "dask", "--address", scheduler[1])
            process = mmllm.start("batch", source, tmp_path / "rows.jsonl", *asked)
            # Opens when the picture is read to be sent.
            with (tmp_path / "pipe").open("wb"):
                stack.close()
            _, err = process.communicate(timeout=300)
    assert process.returncode == 3
    assert only_one_line(err.decode().splitlines()).endswith(f"tcp://{scheduler[1]} has gone")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.txt", "pipe"]


def test_a_scheduler_without_workers_and_none_at_all(
    folder: Path,
    scheduler: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("mmllm_cli.batch_dask.LATEST_ANSWER_S", 2.0)
    for address, said in ((scheduler, "has no workers"), ("127.0.0.1:1", "no Dask scheduler answers at")):
        asked = ["--task", "caption", "--engine", "dask", "--address", address]
        assert run_app(app, ["batch", str(folder), str(tmp_path / "rows.jsonl"), *asked]) == 3
        assert said in only_one_line(capsys.readouterr().err.splitlines())
        assert list(tmp_path.iterdir()) == []


def test_addresses() -> None:
    assert scheduler_address("127.0.0.1:8786") == "tcp://127.0.0.1:8786"
    assert scheduler_address("tls://scheduler:8786") == "tls://scheduler:8786"
    assert scheduler_address("[::1]:8786") == "tcp://[::1]:8786"
    for text in ("", "host", "host:", ":8786", "host:0", "host:70000", "host:port"):
        with pytest.raises(UsageError, match="is not HOST:PORT"):
            scheduler_address(text)
