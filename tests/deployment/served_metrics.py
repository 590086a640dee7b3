"""The names of the time series that the service shows: the one list that the files are held against."""

from __future__ import annotations

COUNTERS_AND_GAUGES = frozenset(
    """
    mmllm_requests_total mmllm_in_flight_requests mmllm_queue_depth mmllm_cache_hits_total
    mmllm_cache_misses_total mmllm_errors_total mmllm_rate_limited_total mmllm_overloaded_total
    mmllm_redis_up mmllm_ready mmllm_model_info mmllm_process_cpu_seconds_total
    mmllm_process_resident_memory_bytes mmllm_process_read_bytes_total mmllm_process_write_bytes_total
    """.split()
)
HISTOGRAMS = frozenset(("mmllm_request_seconds", "mmllm_stage_seconds", "mmllm_batch_size"))


def served_names() -> frozenset[str]:
    """Every name; a histogram has three."""
    parts = {f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count")}
    return COUNTERS_AND_GAUGES | parts
