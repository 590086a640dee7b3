"""Measures of how quick a model is here, and of the memory that it takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.environment import usable_cores
from benchmarks.gate import Measured
from benchmarks.gate_pictures import GATE_PICTURES, picture_bytes
from benchmarks.gate_subject import GateSubject
from benchmarks.timing import SamplingPlan, elapsed_ms, take_samples
from mobile_multimodal.errors import InconclusiveError
from mobile_multimodal.image import load_image
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.results import TaskRequest

__all__ = ["measure_latency", "measure_peak_memory", "measure_throughput"]

WARMUP = 5
BATCH = 16
FRESH_PROCESS_TIMEOUT_S = 300
FRESH_PROCESS = """
import sys
from benchmarks.gate_pictures import GATE_PICTURES, picture_bytes
from benchmarks.memory import peak_rss_mib
from mobile_multimodal import MobileMultiModalLLM
model = MobileMultiModalLLM(sys.argv[1], backend=sys.argv[2])
for picture in GATE_PICTURES:
    assert model.generate_caption(picture_bytes(picture))
    assert model.answer_question(picture_bytes(picture), "what is in the picture?")
if model.config.ocr is not None:
    model.extract_text(picture_bytes(GATE_PICTURES[0]))
print(peak_rss_mib())
"""


def measure_latency(subject: GateSubject) -> Measured:
    """Milliseconds of one caption after another, from the file's bytes, the photos in turn, warm."""
    files = [picture_bytes(picture) for picture in GATE_PICTURES]
    model, turn = subject.loaded, 0

    def caption() -> float:
        nonlocal turn
        started = time.perf_counter_ns()
        model.run([load_image(files[turn % len(files)])], [TaskRequest("caption")])
        turn += 1
        return elapsed_ms(started)

    effort = subject.effort
    plan = SamplingPlan(effort.latency_samples, min(WARMUP, effort.latency_samples))
    plan = SamplingPlan(plan.runs, plan.warmup, max_secs=effort.latency_seconds)
    [samples] = take_samples([caption], plan)
    return Measured(samples_ms=tuple(samples), percentile=95)


def measure_throughput(subject: GateSubject) -> Measured:
    """Captions a second from the files' bytes, in batches of 16, every core with a batch of its own.

    Under torch, whose threads belong to the whole process, one batch at a time has all of them.
    """
    subject.loaded  # noqa: B018 - raises where there is none
    files = [picture_bytes(GATE_PICTURES[number % len(GATE_PICTURES)]) for number in range(BATCH)]
    workers = 1 if subject.backend == "torch" else len(usable_cores())
    threads = None if subject.backend == "torch" else 1
    model = MobileMultiModalLLM(subject.directory, backend=subject.backend, threads=threads)
    _caption_all(model, files)  # warm
    deadline = time.monotonic() + subject.effort.throughput_seconds

    def work(_: int) -> int:
        done = _caption_all(model, files)
        while time.monotonic() < deadline:
            done += _caption_all(model, files)
        return done

    started = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        done = sum(pool.map(work, range(workers)))
    seconds = time.monotonic() - started
    return Measured(
        done / seconds, note=f"{done} captions in {seconds:.1f} s, {workers} batches of {BATCH} at once"
    )


def _caption_all(model: MobileMultiModalLLM, files: Sequence[bytes]) -> int:
    return len(model.run([load_image(data) for data in files], [TaskRequest("caption")]))


def measure_peak_memory(subject: GateSubject) -> Measured:
    """The most resident memory of a fresh process that captions and answers, in units of 10⁶ bytes.

    Where the model reads text, the process reads a photo too.

    Raises:
        InconclusiveError: the process fails, takes over five minutes, or the system does not tell.
    """
    subject.loaded  # noqa: B018 - raises where there is none
    root = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join(path for path in (root, os.environ.get("PYTHONPATH", "")) if path)
    command = [sys.executable, "-c", FRESH_PROCESS, str(subject.directory.resolve()), subject.backend]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            timeout=FRESH_PROCESS_TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": paths},
        )
    except subprocess.CalledProcessError as exc:
        line = (exc.stderr.strip() or "nothing").splitlines()[-1]
        raise InconclusiveError(f"the fresh process ended with {exc.returncode}: {line}") from exc
    except subprocess.TimeoutExpired as exc:
        raise InconclusiveError(f"the fresh process took over {FRESH_PROCESS_TIMEOUT_S} s") from exc
    words = done.stdout.split()
    if not words or words[-1] == "None":
        raise InconclusiveError("this system does not tell how much memory a process has held")
    return Measured(float(words[-1]) * 2**20 / 1e6, note="a fresh process: captions, answers, reading")
