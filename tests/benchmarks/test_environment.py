"""The machine as its own files tell it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.environment import CPU_UNITS, commit, environment, processor, usable_cores
from benchmarks.memory import peak_rss_mib

ROOT = Path(__file__).parents[2]


def test_every_value_has_its_source_and_is_json() -> None:
    found = environment()
    sources = found.pop("sources")
    assert found.keys() == sources.keys()
    assert json.loads(json.dumps(found)) == found
    assert found["cores"] == os.cpu_count()
    assert found["usable_cores"] == len(usable_cores()) <= os.cpu_count()
    assert found["versions"]["numpy"] == np.__version__
    assert found["cpu"] == processor() != ""


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="not checked here: needs /proc")
def test_vector_units_are_those_of_proc() -> None:
    words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    assert set(environment()["vector_units"]) == words & CPU_UNITS


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not checked here: no checkout")
def test_the_commit_is_the_checkout_s() -> None:
    head = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert commit() in (head, f"{head}-dirty")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="not checked here: needs /proc")
def test_peak_memory_is_the_process_s_own_and_stays_when_memory_is_given_back() -> None:
    ballast = b"x" * (200 * 2**20)
    program = "from benchmarks.memory import peak_rss_mib; {}; print(peak_rss_mib())"
    peaks = [
        float(
            subprocess.run(
                [sys.executable, "-c", program.format(held)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for held in ("pass", "x = b'x' * (100 * 2**20); del x")
    ]
    assert len(ballast) > 0
    own = peak_rss_mib()
    assert own is not None
    assert peaks[0] < 100 < 200 < own  # what the parent holds is not the child's
    assert peaks[1] - peaks[0] == pytest.approx(100, abs=10)
