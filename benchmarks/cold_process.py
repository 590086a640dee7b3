"""A process of its own that loads a model and uses it once: ``python -m benchmarks.cold_process``.

It takes one JSON object on standard input and prints one; see :func:`run_cold`.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

__all__ = ["ColdRun", "main", "run_cold"]


@dataclass(frozen=True)
class ColdRun:
    """What one process took and held.

    ``process_ms`` is from its start to its end as its parent saw it, ``load_ms`` from its first line to
    the opened model, imports and hashes included, ``first_inference_ms`` the first caption, which opens
    the graphs where the runtime opens them late. ``peak_rss_mib`` is None where the system does not tell.
    """

    process_ms: float
    load_ms: float
    first_inference_ms: float
    peak_rss_mib: float | None


def run_cold(
    model: str | None, backend: str, threads: int, photo: bytes, page: bytes | None = None
) -> ColdRun:
    """Start a process that opens a model, captions a photo, and reads a page if one is given.

    Its files may lie in the system's cache: what is cold is the process, not the disk.

    Raises:
        InconclusiveError: the process failed; the message ends with its last line.
    """
    from mobile_multimodal.errors import InconclusiveError

    request: dict[str, Any] = {"model": model, "backend": backend, "threads": threads}
    for name, data in (("photo", photo), ("page", page)):
        request[name] = None if data is None else base64.b64encode(data).decode()
    command = [sys.executable, "-m", "benchmarks.cold_process"]
    started = time.perf_counter_ns()
    done = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, check=False)
    process_ms = (time.perf_counter_ns() - started) / 1e6
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise InconclusiveError(
            f"the process that loads {model or 'the default model'} with {backend} ended with code "
            f"{done.returncode}: {last}"
        )
    return ColdRun(process_ms=process_ms, **json.loads(done.stdout))


def main() -> None:
    """Load, caption, read, and print what it took."""
    request: dict[str, Any] = json.load(sys.stdin)
    photo, page = (request[name] and base64.b64decode(request[name]) for name in ("photo", "page"))
    started = time.perf_counter_ns()
    # Imported here, for imports are a part of what is measured.
    from mobile_multimodal.model import MobileMultiModalLLM

    model = MobileMultiModalLLM(request["model"], backend=request["backend"], threads=request["threads"])
    loaded = time.perf_counter_ns()
    model.generate_caption(photo)
    captioned = time.perf_counter_ns()
    if page is not None:
        model.extract_text(page)
    from benchmarks.memory import peak_rss_mib

    found = {
        "load_ms": (loaded - started) / 1e6,
        "first_inference_ms": (captioned - loaded) / 1e6,
        "peak_rss_mib": peak_rss_mib(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
