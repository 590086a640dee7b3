"""The most memory that this process has held."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["peak_rss_mib"]

STATUS = Path("/proc/self/status")


def peak_rss_mib() -> float | None:
    """The most resident memory of this process until now, in MiB; None where the system does not tell.

    From ``VmHWM`` in ``/proc``: on Linux ``getrusage`` counts the parent's memory from before ``exec``.
    """
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return _from_getrusage() if sys.platform == "darwin" else None
    marks = [line for line in lines if line.startswith("VmHWM:")]
    return int(marks[0].split()[1]) / 1024 if marks else None


def _from_getrusage() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS
