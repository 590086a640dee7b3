"""The timer measures processes that sleep a known time and hold a known amount of memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.latency import main, peak_mib, wall_seconds

CAT = Path(__file__).resolve().parents[2] / "examples/images/cat.jpg"


def test_wall_time_of_a_process() -> None:
    walls = wall_seconds([sys.executable, "-c", "import time; time.sleep(0.4)"], 2)
    assert len(walls) == 2
    assert all(wall >= 0.4 for wall in walls)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="not checked here: needs /proc")
def test_peak_memory_is_the_child_s_own() -> None:
    ballast = b"x" * (300 * 2**20)
    small = peak_mib([sys.executable, "-c", "import time; time.sleep(0.2)"])
    held = "x = b'x' * (200 * 2**20); del x; import time; time.sleep(0.2)"
    large = peak_mib([sys.executable, "-c", held])
    assert len(ballast) > 0
    assert small is not None
    assert large is not None
    assert small < 100
    assert large - small == pytest.approx(200, abs=20)


def test_a_failing_command_is_no_measurement() -> None:
    failing = [sys.executable, "-c", "raise SystemExit(3)"]
    with pytest.raises(subprocess.CalledProcessError):
        wall_seconds(failing, 1)
    with pytest.raises(subprocess.CalledProcessError):
        peak_mib(failing)


def test_too_few_samples_give_no_95th_percentile(capsys: pytest.CaptureFixture[str]) -> None:
    main([str(CAT), "--cold-runs", "1", "--warm-runs", "3"])
    shown = capsys.readouterr().out
    assert "warm caption: p50" in shown
    assert "p95" not in shown
    assert "peak memory:" in shown


def test_two_models_are_timed_in_turns(capsys: pytest.CaptureFixture[str]) -> None:
    main([str(CAT), "--cold-runs", "1", "--warm-runs", "3", "--against", "mmllm-base"])
    shown = capsys.readouterr().out
    assert shown.count("warm caption: p50") == shown.count("(mmllm-base, weight_only_wi8_afp32)") == 2
    assert 0.3 < float(shown.rpartition("ratio of the medians:")[2]) < 3
