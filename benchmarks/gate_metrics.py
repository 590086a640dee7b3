"""The one table of what a gate can check: names, units, what each is, how it is measured, what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from benchmarks.gate import Measured
from benchmarks.gate_measure_data import measure_cider_d, measure_data_page_cer, measure_vqa_accuracy
from benchmarks.gate_measure_kernels import measure_integer_kernels, measure_integer_settings
from benchmarks.gate_measure_numbers import (
    measure_float_caption_f1,
    measure_float_cosine,
    measure_torch_cosine,
    measure_torch_error,
)
from benchmarks.gate_measure_service import (
    measure_cache_hits,
    measure_health_page,
    measure_metrics_page,
    measure_ready_page,
    measure_request_errors,
    measure_request_latency,
    measure_request_rate,
)
from benchmarks.gate_measure_speed import measure_latency, measure_peak_memory, measure_throughput
from benchmarks.gate_measure_start import (
    measure_caption_characters,
    measure_health,
    measure_info,
    measure_initialised,
    measure_size,
    measure_wrong_hashes,
)
from benchmarks.gate_measure_words import (
    measure_distinct_captions,
    measure_expected_words,
    measure_page_cer,
    measure_right_answers,
)
from benchmarks.gate_subject import GateSubject

__all__ = ["METRICS", "OPTIONS", "Metric"]

OPTIONS = ("eval-data", "service")
"""What a check may be left out without: the command line's options of these names."""


@dataclass(frozen=True)
class Metric:
    """One metric. ``kind`` is the type of its values and limits; ``needs`` is in words, empty for nothing."""

    unit: str
    what: str
    how: str
    measure: Callable[[GateSubject], Measured]
    needs: str = ""
    kind: type[bool] | type[str] | type[float] = float
    is_percentile: bool = False


_TORCH, _FONTS, _ONNX = "torch (extra export)", "fonts (extra bench)", "an artifact for onnx"
_DATA, _SERVICE = "--eval-data DIR", "--service URL"

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "model_initialised": Metric(
            "yes/no", "the model can be opened", "opened once, files verified", measure_initialised, kind=bool
        ),
        "caption_characters": Metric(
            "characters", "the caption is not empty", "one picture of noise", measure_caption_characters
        ),
        "health_status": Metric(
            "word", "healthy or unhealthy", "get_health_status()", measure_health, kind=str
        ),
        "model_info_entries": Metric("entries", "model info is present", "get_model_info()", measure_info),
        "wrong_hashes": Metric(
            "files", "files that are not those of the manifest", "sha256 of each", measure_wrong_hashes
        ),
        "size_mb": Metric(
            "MB (10⁶ bytes)", "what ships", "bytes of every file of the directory", measure_size
        ),
        "expected_words_percent": Metric(
            "%", "captions that name what is there", "4 packaged photos", measure_expected_words
        ),
        "distinct_captions_percent": Metric(
            "%", "captions that are different", "4 packaged photos", measure_distinct_captions
        ),
        "right_answers_percent": Metric(
            "%", "questions answered rightly", "7 questions on the packaged photos", measure_right_answers
        ),
        "page_cer_percent": Metric(
            "%", "characters read wrongly", "5 pages drawn now, seed 0", measure_page_cer, _FONTS
        ),
        "float_feature_cosine": Metric(
            "cosine",
            "quantized against float: image features",
            "least of keys and values, packaged photos",
            measure_float_cosine,
            _TORCH,
        ),
        "float_caption_f1_percent": Metric(
            "%",
            "quantized against float: content words of captions",
            "mean F1, packaged photos",
            measure_float_caption_f1,
            _TORCH,
        ),
        "torch_parity_cosine": Metric(
            "cosine",
            "the runtime against torch, same numbers",
            "least of all outputs of all components, same inputs",
            measure_torch_cosine,
            _TORCH,
        ),
        "torch_parity_max_error": Metric(
            "1",
            "the runtime against torch, same numbers",
            "largest difference of any output, same inputs",
            measure_torch_error,
            _TORCH,
        ),
        "missing_integer_settings": Metric(
            "settings",
            "settings without which 8 bits saturate",
            "read from the session",
            measure_integer_settings,
            _ONNX,
        ),
        "integer_kernel_error": Metric(
            "1",
            "8-bit products against whole numbers",
            "a packaged graph, the model's own settings",
            measure_integer_kernels,
            _ONNX,
        ),
        "caption_p95_ms": Metric(
            "ms",
            "p95 of one caption after another",
            "file to text, warm, 140 samples, at most 20 s",
            measure_latency,
            is_percentile=True,
        ),
        "captions_per_s": Metric(
            "captions/s",
            "throughput of many pictures",
            "file to text for 5 s, batches of 16, one on each core",
            measure_throughput,
        ),
        "peak_memory_mb": Metric(
            "MB (10⁶ bytes)",
            "the most memory held",
            "a fresh process: captions, answers, reading",
            measure_peak_memory,
            "Linux or macOS",
        ),
        "cider_d": Metric(
            "× 100", "CIDEr-D of captions", "all rows of captions_val.jsonl", measure_cider_d, _DATA
        ),
        "vqa_accuracy_percent": Metric(
            "%", "VQA accuracy", "all rows of vqa_val.jsonl", measure_vqa_accuracy, _DATA
        ),
        "data_page_cer_percent": Metric(
            "%",
            "characters read wrongly",
            "20 pages drawn now, seed 0",
            measure_data_page_cer,
            f"{_DATA}, {_FONTS}",
        ),
        "service_p95_ms": Metric(
            "ms",
            "p95 of a request",
            "8 clients, 20 s or 3,000 requests",
            measure_request_latency,
            _SERVICE,
            is_percentile=True,
        ),
        "service_requests_per_s": Metric(
            "requests/s", "captions given a second", "in the same load", measure_request_rate, _SERVICE
        ),
        "service_error_percent": Metric(
            "%", "requests without a caption", "in the same load", measure_request_errors, _SERVICE
        ),
        "service_cache_hit_percent": Metric(
            "%", "captions from the cache", "9 of 10 pictures repeated", measure_cache_hits, _SERVICE
        ),
        "service_healthy": Metric(
            "yes/no", "/health answers 200", "asked once", measure_health_page, _SERVICE, bool
        ),
        "service_ready": Metric(
            "yes/no", "/ready answers 200", "asked once", measure_ready_page, _SERVICE, bool
        ),
        "service_metrics_valid": Metric(
            "yes/no",
            "/metrics is well-formed",
            "Prometheus text format",
            measure_metrics_page,
            _SERVICE,
            bool,
        ),
    }
)
"""Name → metric, in the order in which they are listed."""
