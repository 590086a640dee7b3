"""Cold and warm latency of the default model: ``python -m benchmarks.latency PICTURE``.

Cold is a whole process, start to end; warm is one loaded model on one thread. Run it on a quiet
machine: it prints what it found and judges nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mobile_multimodal import MobileMultiModalLLM, TaskRequest, load_image

__all__ = ["main", "ms_per_token", "peak_mib", "processor", "wall_seconds", "warm_samples_ms"]


def wall_seconds(command: Sequence[str], count: int) -> list[float]:
    """Run a command ``count`` times, one process each → seconds from start to end.

    Raises:
        subprocess.CalledProcessError: it did not exit 0.
    """
    walls = []
    for _ in range(count):
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        walls.append(time.perf_counter() - started)
    return walls


def peak_mib(command: Sequence[str]) -> float | None:
    """The most resident memory that a command held, in MiB; None where the system does not tell (no /proc).

    The high-water mark is read from the running process every two milliseconds: what ``wait4`` reports
    counts the parent's own memory from before ``exec``.

    Raises:
        subprocess.CalledProcessError: it did not exit 0.
    """
    highest = None
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            with contextlib.suppress(OSError):
                for line in status.read_text(encoding="ascii").splitlines():
                    if line.startswith("VmHWM:"):
                        highest = int(line.split()[1]) / 1024
            time.sleep(0.002)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return highest


def warm_samples_ms(
    models: Sequence[MobileMultiModalLLM], picture: Path, count: int, warmup: int = 5
) -> list[list[float]]:
    """Milliseconds of ``count`` captions of one picture by each model, file reading included.

    The models take turns, so that a busy machine slows them alike; ``warmup`` turns are not counted.
    """
    samples: list[list[float]] = [[] for _ in models]
    for number in range(warmup + count):
        for model, kept in zip(models, samples, strict=True):
            started = time.perf_counter()
            model.run([load_image(picture)], [TaskRequest("caption")])
            if number >= warmup:
                kept.append(1000 * (time.perf_counter() - started))
    return samples


def ms_per_token(model: MobileMultiModalLLM, picture: Path, count: int) -> float:
    """Median milliseconds of a caption's writing, divided by its tokens; seeing the picture is left out."""
    spent = []
    for _ in range(count):
        [[result]] = model.run([load_image(picture)], [TaskRequest("caption")])
        spent.append(result.timings_ms["generate"] / max(1, len(result.token_ids)))
    return float(np.median(spent))


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of one machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--cold-runs", type=int, default=10)
    parser.add_argument("--warm-runs", type=int, default=200)
    parser.add_argument("--against", metavar="MODEL", help="a second model, warm, in turns with the default")
    options = parser.parse_args(arguments)
    program = [sys.executable, "-m", "mmllm_cli"]
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in ("onnxruntime", "numpy"))
    print(f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    caption = [*program, "caption", str(options.picture)]
    walls = wall_seconds(caption, options.cold_runs)
    print(f"cold caption: median {np.median(walls):.2f} s, slowest {max(walls):.2f} s of {len(walls)}")
    peak = peak_mib(caption)
    print("peak memory:  not measured here" if peak is None else f"peak memory:  {peak:.0f} MiB")
    shown = wall_seconds([*program, "--help"], options.cold_runs)
    print(f"--help:       median {np.median(shown):.2f} s, slowest {max(shown):.2f} s of {len(shown)}")
    names = [None] if options.against is None else [None, options.against]
    models = [MobileMultiModalLLM(name, threads=1) for name in names]
    medians = []
    for model, samples in zip(
        models, warm_samples_ms(models, options.picture, options.warm_runs), strict=True
    ):
        p50, p95 = np.percentile(samples, [50, 95])
        medians.append(p50)
        # Below 130 samples a 95th percentile cannot be stated with 99 % confidence.
        tail = f", p95 {p95:.1f} ms" if len(samples) >= 130 else ""
        written = ms_per_token(model, options.picture, 20)
        print(
            f"warm caption: p50 {p50:.1f} ms{tail} of {len(samples)}, one thread, "
            f"{written:.2f} ms a token ({model.name}, {model.recipe})"
        )
    if len(medians) > 1:
        print(f"ratio of the medians: {medians[1] / medians[0]:.2f}")


if __name__ == "__main__":
    main()
