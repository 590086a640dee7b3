"""What this machine's cores could do at best, and how near a model comes: ``python -m benchmarks.roofline``.

After Williams, Waterman and Patterson, Roofline (CACM 52(4), 2009): a network of large products is
bound by the rate of multiply-adds, a step that multiplies each weight once by the rate of reading.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime

from benchmarks.operation_counts import decoder_multiply_adds, encoder_multiply_adds, step_weight_bytes
from benchmarks.report import Measurement
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.results import GenerationConfig

__all__ = ["MATMUL", "main", "measure_gemm_gflops", "measure_read_gb_per_s", "roofline_metrics"]

MATMUL = bytes.fromhex(
    "08083a5b0a110a01610a016212016322064d61744d756c1201675a150a016112100a0e0801120a0a0312016d0a0312016b5a15"
    "0a016212100a0e0801120a0a0312016b0a0312016e62150a016312100a0e0801120a0a0312016d0a0312016e42040a001011"
)
"""An ONNX model: ``c`` [m, n] = ``a`` [m, k] · ``b`` [k, n], float32. Written out, for onnx is no part of
the base install; a test reads it with onnx."""
GEMM_SIDES = (256, 384, 512, 768, 1024)
MEMORY_BYTES = 256 * 2**20
"""More than the caches of a phone, a laptop or one part of a server hold."""
IN_CACHE = 1.25
"""What is read this much faster than memory lies in a cache."""


def _best_seconds(work: Callable[[], object], seconds: float) -> float:
    """The shortest of the runs that fit into so many seconds, at least three behind a first one."""
    work()
    best, runs, ends = float("inf"), 0, time.perf_counter() + seconds
    while runs < 3 or time.perf_counter() < ends:
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
        runs += 1
    return best


def measure_gemm_gflops(threads: int, seconds: float = 0.3) -> float:
    """The highest rate at which ONNX Runtime multiplies square float32 matrices of 256 to 1024, in GFLOP/s.

    A multiply-add is two operations. ``seconds`` is the time for each size.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(MATMUL, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    rates = []
    for side in GEMM_SIDES:
        a, b = (rng.standard_normal((side, side), dtype=np.float32) for _ in range(2))
        best = _best_seconds(functools.partial(session.run, None, {"a": a, "b": b}), seconds)
        rates.append(2 * side**3 / best / 1e9)
    return max(rates)


def measure_read_gb_per_s(size: int, threads: int, seconds: float = 0.3) -> float:
    """The highest rate at which ``threads`` cores read ``size`` bytes over and over, in 10^9 bytes/s.

    What fits into a cache comes from there. Each thread reads a part of its own; numpy finds the
    largest of float32, which a core does faster than a memory delivers.
    """
    parts = np.array_split(np.ones(max(size // 4, threads), dtype=np.float32), threads)
    # So often that the start of the threads does not count.
    passes = max(1, 64 * 2**20 // size) if threads > 1 else 1

    def read(part: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
        for _ in range(passes):
            part.max()

    if threads == 1:
        best = _best_seconds(functools.partial(read, parts[0]), seconds)
    else:
        with ThreadPoolExecutor(threads) as pool:
            best = _best_seconds(lambda: list(pool.map(read, parts)), seconds)
    return sum(part.nbytes for part in parts) * passes / best / 1e9


_gemm_gflops = functools.cache(measure_gemm_gflops)
_read_gb_per_s = functools.cache(measure_read_gb_per_s)


def roofline_metrics(
    model: MobileMultiModalLLM, encode_p50_ms: float | None, decode_p50_ms: float | None, threads: int
) -> dict[str, Measurement]:
    """How near the encoder and a decoder step come to what this machine can do, measured now.

    ``gemm_peak_gflops`` as :func:`measure_gemm_gflops`; ``encode_peak_percent`` and
    ``decode_peak_percent`` are the networks' own float operations against it; ``decode_bound_ratio`` is
    the step's time over that of reading its weights once, at the rate of reading just so many bytes over
    and over. It is left out where the runtime does not tell how it holds its weights.

    Args:
        model: the model that was measured.
        encode_p50_ms: median of one run of the encoder; None leaves its metric out.
        decode_p50_ms: median of one run of the decoder for one token; None leaves its metrics out.
        threads: as many as the model ran with. The machine is measured once for each number of threads.
    """
    peak = _gemm_gflops(threads)
    cores = "one core" if threads == 1 else f"{threads} threads"
    found = [Measurement("gemm_peak_gflops", "GFLOP/s", value=peak, note=f"float32, {cores}")]
    vision, text = model.config.vision, model.config.text
    if encode_p50_ms is not None:
        work = encoder_multiply_adds(vision, text)
        found.append(_peak_percent("encode_peak_percent", work, encode_p50_ms, peak))
    if decode_p50_ms is not None:
        cached = text.num_name_slots + GenerationConfig().max_tokens
        work = decoder_multiply_adds(text, vision.num_cells, cached)
        found.append(_peak_percent("decode_peak_percent", work, decode_p50_ms, peak))
        size = step_weight_bytes(model)
        if size is not None:
            found.append(_bound_ratio(size, decode_p50_ms, threads))
    return {measurement.name: measurement for measurement in found}


def _peak_percent(name: str, multiply_adds: int, ms: float, peak_gflops: float) -> Measurement:
    gflops = 2 * multiply_adds / (ms / 1000.0) / 1e9
    note = f"{multiply_adds / 1e6:.1f} million multiply-adds in {ms:.3g} ms: {gflops:.1f} GFLOP/s"
    return Measurement(name, "%", value=100.0 * gflops / peak_gflops, note=note)


def _bound_ratio(size: int, ms: float, threads: int) -> Measurement:
    rate, memory = _read_gb_per_s(size, threads), _read_gb_per_s(MEMORY_BYTES, threads)
    bound_ms = size / (rate * 1e9) * 1000.0
    place = "a cache" if rate > IN_CACHE * memory else "memory"
    note = (
        f"{size / 2**20:.1f} MiB of weights, read from {place} at {rate:.1f} GB/s in {bound_ms:.3f} ms; "
        f"memory gives {memory:.1f} GB/s"
    )
    return Measurement("decode_bound_ratio", "x", value=ms / bound_ms, note=note)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the rates of this machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.roofline", description=main.__doc__)
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    options = parser.parse_args(arguments)
    print(f"multiply-adds: {measure_gemm_gflops(options.threads):.1f} GFLOP/s, float32")
    for mib in (0.5, 4, 18, 64, 256):
        rate = measure_read_gb_per_s(int(mib * 2**20), options.threads)
        print(f"reading {mib:g} MiB over and over: {rate:.1f} GB/s")


if __name__ == "__main__":
    main()
