"""Programs run as a user runs them: in a process, from the repository, offline."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.source_tree import ROOT

TIMEOUT_S = 900


def run_program(command: Sequence[str | Path], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; ``mmllm`` and ``python`` are those of this environment."""
    bin_directory = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{bin_directory}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(ROOT),  # the tree under test, also where another version is installed
        "PYTHONIOENCODING": "utf-8",
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
    )


def explain(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed program said, for the assertion's message."""
    return f"{done.args} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
