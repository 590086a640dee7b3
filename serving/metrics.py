"""What the service counts and times, for Prometheus; one set of figures over all worker processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client import multiprocess as several

__all__ = [
    "BATCH_SIZE",
    "CACHE_BYTES",
    "CACHE_HITS",
    "CACHE_MISSES",
    "CONTENT_TYPE",
    "ERRORS",
    "FOLDER",
    "IN_FLIGHT",
    "MODEL_INFO",
    "OVERLOADED",
    "QUEUE_DEPTH",
    "RATE_LIMITED",
    "READY",
    "REDIS_UP",
    "REQUESTS",
    "REQUEST_SECONDS",
    "STAGE_SECONDS",
    "ProcessWatch",
    "exposition",
]

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names where workers share their figures; set it before this module is imported."""
CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0)
STAGES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

# The time at which each series began would be as many lines again, and nobody reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]

REQUESTS = Counter("mmllm_requests", "Requests answered, by task and HTTP status", ["task", "status"])
REQUEST_SECONDS = Histogram("mmllm_request_seconds", "From request to answer", ["task"], buckets=SECONDS)
STAGE_SECONDS = Histogram("mmllm_stage_seconds", "Parts of the work on a request", ["stage"], buckets=STAGES)
IN_FLIGHT = Gauge("mmllm_in_flight_requests", "Requests being worked on", multiprocess_mode="livesum")
QUEUE_DEPTH = Gauge("mmllm_queue_depth", "Pictures that wait for the model", multiprocess_mode="livesum")
BATCH_SIZE = Histogram("mmllm_batch_size", "Texts written in one batch", buckets=(1, 2, 4, 8, 16, 32, 64))
CACHE_BYTES = Gauge(
    "mmllm_cache_bytes", "Memory that kept features and results take", multiprocess_mode="livesum"
)
CACHE_HITS = Counter("mmllm_cache_hits", "Results that were known", ["tier"])
CACHE_MISSES = Counter("mmllm_cache_misses", "Results that had to be computed")
ERRORS = Counter("mmllm_errors", "Requests that were refused or failed, by kind", ["type"])
RATE_LIMITED = Counter("mmllm_rate_limited", "Requests above the rate limit")
OVERLOADED = Counter("mmllm_overloaded", "Requests above the limit of requests at once")
REDIS_UP = Gauge("mmllm_redis_up", "Whether Redis answers", multiprocess_mode="livemin")
READY = Gauge("mmllm_ready", "Whether every worker can answer", multiprocess_mode="livemin")
MODEL_INFO = Gauge(
    "mmllm_model_info", "The model that is served", ["name", "recipe", "sha256"], multiprocess_mode="livemax"
)
CPU_SECONDS = Counter("mmllm_process_cpu_seconds", "Processor time of the workers")
RESIDENT_BYTES = Gauge(
    "mmllm_process_resident_memory_bytes", "Memory of the workers", multiprocess_mode="livesum"
)
READ_BYTES = Counter("mmllm_process_read_bytes", "Bytes that the workers read from disks")
WRITE_BYTES = Counter("mmllm_process_write_bytes", "Bytes that the workers wrote to disks")


def exposition() -> bytes:
    """All figures in the text format, of all workers where there are several."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return generate_latest()
    _forget_the_dead(Path(folder))
    registry = CollectorRegistry()
    several.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _forget_the_dead(folder: Path) -> None:
    """Gauges of workers that ended must not be added to those that live."""
    pids = {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*_*.db")}
    for pid in pids:
        if pid.isdigit() and not Path("/proc", pid).exists() and Path("/proc").exists():
            several.mark_process_dead(int(pid), str(folder))  # type: ignore[no-untyped-call]


class ProcessWatch:
    """What this process has used since the last look; where the system does not tell (no /proc), nothing."""

    def __init__(self) -> None:
        self._cpu = 0.0
        self._read = self._written = 0

    def look(self) -> None:
        """Add what was used since to the figures."""
        cpu = time.process_time()
        CPU_SECONDS.inc(max(0.0, cpu - self._cpu))
        self._cpu = cpu
        try:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
        except OSError:
            return
        RESIDENT_BYTES.set(pages * os.sysconf("SC_PAGE_SIZE"))
        used = {name: int(value) for name, _, value in (line.partition(": ") for line in lines)}
        READ_BYTES.inc(max(0, used["read_bytes"] - self._read))
        WRITE_BYTES.inc(max(0, used["write_bytes"] - self._written))
        self._read, self._written = used["read_bytes"], used["write_bytes"]
