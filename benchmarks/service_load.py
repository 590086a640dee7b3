"""A running service under the load of wrk: ``python -m benchmarks.service_load http://127.0.0.1:8080``.

Every request captions a JPEG of 224 px. Bytes behind the end of a JPEG make another picture of it for the
service, and the same for the eye; ``--repeated 80`` sends one of fifty known ones in 80 % of the requests.
Memory and processor time are those that the service's own ``/metrics`` tells, of all its workers;
``MMLLM_API_KEY`` holds the key that ``/metrics`` and captions need, if any.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.gate_pictures import GATE_PICTURES, picture_bytes
from benchmarks.gate_service import CAPTION_PATH, ServiceRun
from mobile_multimodal.errors import InconclusiveError, MmllmError

__all__ = ["ServiceLoad", "load_service", "main"]

OCR_PATH = "/api/v1/ocr"
SIDE = 224
PAGE_SIDES = (900, 2600)
WARM_REQUESTS = 1000
WARM_SECONDS = 5
WATCH_S = 2.5
"""The service looks at its own memory and processor time every 2 s."""
CPU, MEMORY = "mmllm_process_cpu_seconds_total", "mmllm_process_resident_memory_bytes"
HITS, MISSES, CACHE = "mmllm_cache_hits_total", "mmllm_cache_misses_total", "mmllm_cache_bytes"
FAILURES = ("connect", "read", "write", "timeout")

SCRIPT = """
local ffi = require("ffi")
ffi.cdef[[ typedef struct { long s; long ns; } mmllm_time; int clock_gettime(int clock, mmllm_time *time); ]]
local time, loads = ffi.new("mmllm_time"), {}

local function now()
   ffi.C.clock_gettime(1, time)
   return tonumber(time.s) * 1e3 + tonumber(time.ns) / 1e6
end

function setup(thread) thread:set("number", #loads); table.insert(loads, thread) end

function init(arguments)
   pictures = {}
   for index = 1, tonumber(arguments[7]) do
      local file = io.open(arguments[1] .. "/" .. index .. ".jpg", "rb")
      table.insert(pictures, file:read("*all"))
      file:close()
   end
   run, repeated, known, path, key = arguments[2], tonumber(arguments[3]), 50, arguments[4], arguments[5]
   pause = tonumber(arguments[6])
   if pause > 0 then delay = function() return math.floor(-math.log(1 - math.random()) * pause) end end
   math.randomseed(tonumber(run) + number)
   count, answered, others = 0, {}, {}
   headers = {["Content-Type"] = "image/jpeg"}
   if key ~= "" then headers["X-API-Key"] = key end
end

function request()
   count = count + 1
   local tail = "new " .. run .. " " .. number .. " " .. count
   if math.random() * 100 < repeated then tail = "known " .. math.random(known) end
   headers["X-Request-Id"] = string.format("%.3f", now())
   return wrk.format("POST", path, headers, pictures[(tonumber(run) + count) % #pictures + 1] .. tail)
end

function response(status, given)
   local began = tonumber(given["x-request-id"] or "")  -- a proxy's own answer has none
   table.insert(status == 200 and answered or others, began and now() - began or 0)
end

local function row(name, latencies)
   table.sort(latencies)
   local parts = {}
   for _, share in ipairs({50, 95, 99, 100}) do
      local place = math.max(1, math.ceil(#latencies * share / 100))
      table.insert(parts, string.format('"%s_p%d": %f', name, share, latencies[place] or 0))
   end
   return string.format('"%s": %d, %s', name, #latencies, table.concat(parts, ", "))
end

function done(summary)
   local e, rows = summary.errors, {answered = {}, others = {}}
   for _, thread in ipairs(loads) do
      for name, all in pairs(rows) do
         for _, spent in ipairs(thread:get(name)) do table.insert(all, spent) end
      end
   end
   io.write(string.format(
      'RESULT {"microseconds": %d, %s, %s, "connect": %d, "read": %d, "write": %d, "timeout": %d}\\n',
      summary.duration, row("answered", rows.answered), row("others", rows.others),
      e.connect, e.read, e.write, e.timeout))
end
"""


@dataclass(frozen=True)
class ServiceLoad:
    """What wrk and the service's own figures say of one run.

    ``requests`` were answered with a caption or a text, in latencies that are milliseconds;
    ``refused_p95_ms`` is that of all other answers. ``errors`` counts these and connections that failed.
    ``pause_ms`` is the mean pause of a connection before each request. ``cpu_ms_per_request`` is the
    processor time of the service's workers alone, without wrk's. ``hits_percent`` are results from a cache.
    The memories are MiB of all workers, and of it the cache's: after the first ``warm_requests``, and at the
    end.
    """

    seconds: float
    connections: int
    repeated_percent: float
    pause_ms: float
    requests: int
    requests_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    longest_ms: float
    refused_p95_ms: float
    errors: dict[str, int]
    cpu_ms_per_request: float
    hits_percent: float
    memory_warm_mib: float
    memory_end_mib: float
    cache_warm_mib: float
    cache_end_mib: float
    warm_requests: int
    requests_in_all: int

    @property
    def growth_percent(self) -> float:
        """How much memory has grown since the service was warm."""
        return 100.0 * (self.memory_end_mib / self.memory_warm_mib - 1.0)


def load_service(
    url: str,
    *,
    seconds: int = 60,
    connections: int = 8,
    repeated_percent: float = 0.0,
    pause_ms: float = 0.0,
    pages: int = 0,
    warm_requests: int = WARM_REQUESTS,
    until_requests: int = 0,
    api_key: str | None = None,
) -> ServiceLoad:
    """Load a service: to warm it, then for ``seconds``, then on until so many requests in all.

    With ``pages`` it reads so many drawn pages in turns, of 900 to 2600 pixels, and captions no photo.

    Raises:
        UsageError: no URL of a service.
        InconclusiveError: wrk is not installed or fails, or the service does not tell its figures.
    """
    service = ServiceRun(url, api_key=api_key)
    with tempfile.TemporaryDirectory(prefix="mmllm-load-") as folder:

        def run(duration_s: int) -> dict[str, float]:
            asked = [repeated_percent, OCR_PATH if pages else CAPTION_PATH, api_key or "", pause_ms]
            arguments = [folder, _seed(), *asked, len(pictures)]
            return _wrk(url, Path(folder) / "load.lua", duration_s, connections, arguments)

        pictures = _pages(pages) if pages else [_picture()]
        for index, picture in enumerate(pictures, start=1):
            (Path(folder) / f"{index}.jpg").write_bytes(picture)
        (Path(folder) / "load.lua").write_text(SCRIPT, "utf-8")
        in_all = 0.0
        while in_all < max(1, warm_requests):
            # The first page of all opens the reader, and may take longer than many captions.
            in_all += _some(run(seconds if pages else min(seconds, WARM_SECONDS)))
        warm, warm_after = _figures(service), int(in_all)
        found = run(seconds)
        measured = _figures(service)
        in_all += _some(found)
        while in_all < until_requests:
            in_all += _some(run(seconds))
        end = _figures(service)
    spent = {name: measured[name] - warm[name] for name in warm}
    asked = spent[HITS] + spent[MISSES]
    return ServiceLoad(
        seconds=found["microseconds"] / 1e6,
        connections=connections,
        repeated_percent=repeated_percent,
        pause_ms=pause_ms,
        requests=int(found["answered"]),
        requests_per_second=found["answered"] / found["microseconds"] * 1e6,
        p50_ms=found["answered_p50"],
        p95_ms=found["answered_p95"],
        p99_ms=found["answered_p99"],
        longest_ms=found["answered_p100"],
        refused_p95_ms=found["others_p95"],
        errors={"refused": int(found["others"]), **{kind: int(found[kind]) for kind in FAILURES}},
        cpu_ms_per_request=1e3 * spent[CPU] / found["answered"],
        hits_percent=100.0 * spent[HITS] / asked if asked else 0.0,
        memory_warm_mib=warm[MEMORY] / 2**20,
        memory_end_mib=end[MEMORY] / 2**20,
        cache_warm_mib=warm[CACHE] / 2**20,
        cache_end_mib=end[CACHE] / 2**20,
        warm_requests=warm_after,
        requests_in_all=int(in_all),
    )


def _some(found: dict[str, float]) -> float:
    if found["answered"] < 1:
        raise InconclusiveError(
            f"the service answered none of {found['others']:.0f} requests",
            remedy="is it ready, is MMLLM_API_KEY good, is RATE_LIMIT_PER_MINUTE high enough?",
        )
    return found["answered"] + found["others"]


def _seed() -> int:
    """Makes the new pictures of every run other ones."""
    return time.time_ns() // 1000 % 10**9


def _picture() -> bytes:
    photo = Image.open(io.BytesIO(picture_bytes(GATE_PICTURES[0]))).convert("RGB")
    return _jpeg(photo.resize((SIDE, SIDE)))


def _pages(count: int) -> list[bytes]:
    """Drawn pages, each of a size of its own."""
    from benchmarks.pages import render_pages

    sides = np.random.default_rng(0).integers(*PAGE_SIDES, (count, 2)).tolist()
    pages = zip(render_pages(count), sides, strict=True)
    return [_jpeg(Image.fromarray(page.pixels).resize((width, height))) for page, (width, height) in pages]


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _wrk(
    url: str, script: Path, seconds: int, connections: int, arguments: Sequence[object]
) -> dict[str, float]:
    program = shutil.which("wrk")
    if program is None:
        raise InconclusiveError("wrk is not installed", remedy="apt-get install wrk")
    # One thread: with more, wrk would take the processors that the service is measured on.
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", script, url]
    command = [str(part) for part in (program, *options, "--", *arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    result = re.search(r"^RESULT (\{.*\})$", done.stdout, re.MULTILINE)
    if done.returncode or result is None:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise InconclusiveError(f"wrk failed: {last}", remedy="does the service listen there?")
    found: dict[str, float] = json.loads(result[1])
    if not found["answered"] + found["others"]:
        raise InconclusiveError(f"nothing answers at {url}", remedy="does the service listen there?")
    return found


def _figures(service: ServiceRun) -> dict[str, float]:
    """The service's own figures, when it has looked at itself after the last request."""
    time.sleep(WATCH_S)
    page = service.page("/metrics")
    if page.status != 200:
        raise InconclusiveError(
            f"/metrics of {service.url} gives {page.status or page.text}",
            remedy="set MONITORING_ENABLED=true, and MMLLM_API_KEY to a key of the role admin",
        )
    return {name: _sum_of(page.text, name) for name in (CPU, MEMORY, HITS, MISSES, CACHE)}


def _sum_of(page: str, name: str) -> float:
    rows = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", page, re.MULTILINE)
    if not rows and name in (CPU, MEMORY):
        raise InconclusiveError(f"/metrics has no {name}", remedy="is this a service of mmllm?")
    return sum(map(float, rows))


def _print(found: ServiceLoad) -> None:
    errors = ", ".join(f"{count} {kind}" for kind, count in found.errors.items() if count) or "0"
    latencies = f"p95 {found.p95_ms:.1f}, p99 {found.p99_ms:.1f}, longest {found.longest_ms:.1f}"
    memory = (
        f"{found.memory_warm_mib:.0f} MiB after {found.warm_requests} requests, {found.memory_end_mib:.0f}"
    )
    cache = f"{found.cache_warm_mib:.0f} and {found.cache_end_mib:.0f} MiB of it are the cache"
    print(f"{found.requests_per_second:.1f} requests/s: {found.requests} in {found.seconds:.1f} s")
    pause = f", each pausing {found.pause_ms:g} ms before a request" if found.pause_ms else ""
    print(f"{found.connections} connections{pause}, {found.repeated_percent:g} % repeated")
    print(f"{found.hits_percent:.1f} % cache hits, {found.cpu_ms_per_request:.2f} CPU-ms a request")
    print(f"p50 {found.p50_ms:.1f} ms, {latencies}")
    refused = f"; p95 of refusals {found.refused_p95_ms:.1f} ms" if found.errors["refused"] else ""
    print(f"errors: {errors}{refused}")
    print(f"memory: {memory} after {found.requests_in_all} ({found.growth_percent:+.1f} %); {cache}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service_load", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--repeated", type=float, default=0.0, metavar="PERCENT")
    parser.add_argument("--pause", type=float, default=0.0, metavar="MS", help="mean, of each connection")
    parser.add_argument("--pages", type=int, default=0, metavar="N", help="read N drawn pages in turns")
    parser.add_argument(
        "--warm", type=int, default=WARM_REQUESTS, metavar="REQUESTS", help="before it counts"
    )
    parser.add_argument("--until", type=int, default=0, metavar="REQUESTS", help="load on until so many")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if (
        options.seconds < 1
        or options.connections < 1
        or not 0 <= options.repeated <= 100
        or min(options.pause, options.pages) < 0
    ):
        parser.error(
            "--seconds and --connections are 1 or more, --repeated is 0 to 100, --pause and --pages 0 or more"
        )
    try:
        found = load_service(
            options.url,
            seconds=options.seconds,
            connections=options.connections,
            repeated_percent=options.repeated,
            pause_ms=options.pause,
            pages=options.pages,
            warm_requests=options.warm,
            until_requests=options.until,
            api_key=os.environ.get("MMLLM_API_KEY"),
        )
    except MmllmError as exc:
        print(f"service_load: {exc}", file=sys.stderr)
        return exc.exit_code
    if options.json:
        print(json.dumps({**asdict(found), "growth_percent": found.growth_percent}, indent=1))
        return 0
    _print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
