"""Components converted in processes: the same files, and what goes wrong there is told here."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from exporters.base import ExportOptions
from exporters.conversion import convert_components
from exporters.export import export_bundle
from exporters.targets import find_target
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import MmllmError, UsageError


def test_several_jobs_write_what_one_does(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    one, three = (
        export_bundle(
            tiny_bundle,
            "onnx",
            tmp_path / f"jobs_{jobs}",
            parity=False,
            jobs=jobs,
            progress=lambda *stage: told.append(stage),
        ).bundle
        for jobs in (1, 3)
    )
    assert three.sha256 == one.sha256
    count = len(one.manifest.components)
    assert told[-1][0].startswith("converted ")
    assert told[-1][1:] == (count, count)


def test_what_goes_wrong_in_a_process_is_raised_here(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    options = ExportOptions(deployment_target="iOS17")
    with pytest.raises(UsageError, match="iOS 17 opens no package of several functions"):
        export_bundle(tiny_bundle, "coreml", tmp_path / "out", options, parity=False, jobs=2)
    assert not list(tmp_path.iterdir())


def ends_at_once(*arguments: Any) -> None:
    """A process that the system ends, as it does where memory is short."""
    os._exit(9)


def test_a_process_that_ends_before_its_time_is_told(
    tiny_bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.conversion._convert", ends_at_once)
    with pytest.raises(MmllmError, match=r"ended before its time \(exit code 9\) \(try --jobs 1\)"):
        convert_components(
            tiny_bundle,
            find_target("onnx"),
            tiny_bundle.config,
            ExportOptions(),
            tmp_path,
            jobs=2,
            tell=lambda stage, done, total: None,
        )


def test_nothing_is_left_behind_where_a_process_is_ended(
    tiny_bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scratch files of a process lie where the caller removes them."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def interrupt(stage: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_bundle(tiny_bundle, "onnx", tmp_path / "out", parity=False, jobs=2, progress=interrupt)
    assert not list(tmp_path.iterdir())
