"""The machine and the versions behind a measurement, each with where it was read."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["CPU_UNITS", "commit", "environment", "processor", "usable_cores", "versions_of"]

CPUINFO = Path("/proc/cpuinfo")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
PACKAGES = ("mmllm", "numpy", "onnxruntime", "torch", "ai-edge-litert", "coremltools", "tokenizers", "pillow")
CPU_UNITS = frozenset(
    "sse4_1 sse4_2 avx avx2 fma f16c avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 avx_vnni "
    "amx_tile amx_int8 amx_bf16 asimd asimdhp asimddp i8mm bf16 sve sve2 sme".split()
)
"""The vector units that kernels choose by, as Linux names them for x86 and Arm."""


def environment() -> dict[str, Any]:
    """What decides how fast this machine is; None where it does not tell.

    ``cpu``, ``vector_units``, ``cores``, ``usable_cores`` (that this process may run on), ``governor``,
    ``memory_mib``, ``load_1m`` (how busy it was), ``platform``, ``python``, ``versions`` by package,
    ``commit`` of the checkout, and ``sources``: where each was read.
    """
    found = {
        "cpu": (processor(), str(CPUINFO) if CPUINFO.exists() else "platform.processor"),
        "vector_units": (_vector_units(), str(CPUINFO)),
        "cores": (os.cpu_count(), "os.cpu_count"),
        "usable_cores": (len(usable_cores()), "os.sched_getaffinity, or os.cpu_count"),
        "governor": (_text(GOVERNOR), str(GOVERNOR)),
        "memory_mib": (_memory_mib(), "os.sysconf"),
        "load_1m": (round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None, "os.getloadavg"),
        "platform": (platform.platform(), "platform.platform"),
        "python": (platform.python_version(), "platform.python_version"),
        "versions": (versions_of(PACKAGES), "importlib.metadata"),
        "commit": (commit(), "git rev-parse HEAD"),
    }
    values: dict[str, Any] = {name: value for name, (value, _) in found.items()}
    return values | {"sources": {name: source for name, (_, source) in found.items()}}


def processor() -> str:
    """The processor's name, where the system tells it."""
    names = _cpu_fields("model name")
    return names[0] if names else platform.processor() or platform.machine()


def usable_cores() -> tuple[int, ...]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def commit() -> str | None:
    """The commit of the checkout that this package runs from, ``-dirty`` where files differ from it.

    None where it runs from somewhere else, or git cannot be asked.
    """
    folder = Path(__file__).parent
    # An installed package may lie in a folder of some other project's checkout.
    if _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return None
    changed = _git(folder, "diff", "--quiet", "HEAD") is None
    return f"{head}-dirty" if changed else head


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _cpu_fields(name: str) -> list[str]:
    lines = (_text(CPUINFO) or "").splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name]


def _vector_units() -> list[str] | None:
    flags = _cpu_fields("flags") or _cpu_fields("Features")  # x86, Arm
    return sorted(CPU_UNITS.intersection(flags[0].split())) if flags else None


def _memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    except (AttributeError, ValueError, OSError):
        return None


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Versions by package, of those that are installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
