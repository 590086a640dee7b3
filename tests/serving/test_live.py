"""Real processes: workers that die, Redis that goes, a stop under load; nothing that was accepted is lost."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serving.live_service import ROOT, LiveService
from tests.serving.real_redis import RealRedis, needs_redis

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="worker processes are found in /proc")
PICTURE = (ROOT / "examples/images/cows.jpg").read_bytes()


def children(pid: int) -> list[int]:
    """The workers of a service: its children that run Python's own spawned main."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == pid and b"spawn_main" in command:
            found.append(int(stat.parent.name))
    return found


@contextmanager
def load(service: LiveService, *, clients: int = 3) -> Iterator[list[int]]:
    """Captions all the while, new pictures and known ones in turns → the statuses; 0 is a lost connection."""
    statuses: list[int] = []
    stop = threading.Event()
    number = itertools.count()

    def ask() -> None:
        while not stop.is_set():
            which = next(number)
            # Bytes behind the end of a JPEG change its content and not its look.
            picture = PICTURE + (which.to_bytes(4, "little") if which % 2 else b"")
            try:
                statuses.append(service.caption(picture)[0])
            except OSError:
                statuses.append(0)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_worker_that_is_killed_is_replaced_and_the_others_serve() -> None:
    with LiveService("--workers", "2") as service:
        wait_for(lambda: len(children(service.process.pid)) == 2, "two workers")
        with load(service) as statuses:
            wait_for(lambda: len(statuses) > 20, "20 answers")
            victim = children(service.process.pid)[0]
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda: victim not in children(service.process.pid), "the end of a worker")
            before = len(statuses)
            wait_for(lambda: len(statuses) > before + 20, "20 answers of the other worker")
            wait_for(lambda: len(children(service.process.pid)) == 2, "a new worker")
        lost = Counter(statuses)
        # What the killed worker had begun is lost, a request a client at most, and what was waiting for it;
        # the new one refuses until its model is loaded.
        assert lost[200] > 20
        assert set(lost) <= {200, 0, 503}
        assert lost[0] <= 6
        text = service.get("/metrics")[1]
        assert re.search(r"^mmllm_in_flight_requests 0\.0$", text, re.MULTILINE), "the dead are forgotten"
        assert service.stop() == 0


def test_a_stop_under_load_finishes_what_was_begun_and_exits_with_0() -> None:
    with LiveService("--workers", "1") as service:
        with load(service) as statuses:
            wait_for(lambda: len(statuses) > 20, "20 answers")
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(60) == 0
        first_refused = statuses.index(0)
        assert set(statuses[:first_refused]) == {200}
        assert set(statuses[first_refused:]) <= {0, 200, 503}


@needs_redis
def test_redis_may_go_and_come_back_under_load(tmp_path: Path) -> None:
    with (
        RealRedis(tmp_path) as redis,
        LiveService("--workers", "1", REDIS_URL=redis.url, CACHE_SIZE_MB="0") as service,
        load(service) as statuses,
    ):

        def figure(name: str) -> float:
            found = re.search(rf"^{re.escape(name)} (\S+)$", service.get("/metrics")[1], re.MULTILINE)
            return float(found[1]) if found else 0.0

        wait_for(lambda: figure('mmllm_cache_hits_total{tier="redis"}') > 5, "results from Redis")
        redis.kill()
        wait_for(lambda: figure("mmllm_redis_up") == 0, "the figure of a Redis that is gone")
        before = len(statuses)
        wait_for(lambda: len(statuses) > before + 20, "answers without Redis")
        assert '"redis":"down' in service.get("/ready")[1]
        assert service.get("/ready")[0] == 200
        redis.start()
        wait_for(lambda: figure("mmllm_redis_up") == 1, "the figure of a Redis that is back")
        hits = figure('mmllm_cache_hits_total{tier="redis"}')
        wait_for(lambda: figure('mmllm_cache_hits_total{tier="redis"}') > hits, "results from Redis again")
        assert set(statuses) == {200}


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"MAX_WORKERS": "many"}, "MAX_WORKERS='many'"),
        ({"BATCH_SIZE": "0"}, "BATCH_SIZE='0'"),
        ({"SECURITY_STRICT_MODE": "perhaps"}, "SECURITY_STRICT_MODE='perhaps'"),
        ({"ALLOWED_IPS": "10.0.0.0/8,here"}, "ALLOWED_IPS"),
        ({"REDIS_URL": "http://x"}, "REDIS_URL"),
        ({"ALLOW_ANONYMOUS": "false"}, "no API keys"),
        ({"API_KEYS_FILE": "/nowhere/keys.json"}, "/nowhere/keys.json"),
        ({"MODEL": "mmllm-huge"}, "mmllm-huge"),
        ({"LOG_FILE": "/nowhere/log"}, "/nowhere/log"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_stops_the_start_with_one_line(environment: dict[str, str], said: str) -> None:
    service = LiveService(**{"MAX_WORKERS": "1", **environment})
    done = subprocess.run(
        service.command, cwd=ROOT, env=service.environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode in (2, 3), done
    lines = [line for line in done.stderr.splitlines() if line.startswith("mmllm: ")]
    assert len(done.stderr.splitlines()) == len(lines) == 1, done.stderr
    assert said in lines[0]


def test_the_command_says_what_is_missing_without_the_extra() -> None:
    program = (
        "import sys; sys.modules['fastapi'] = None; sys.modules['uvicorn'] = None;"
        "from mmllm_cli.app import app; from mmllm_cli.errors_to_exit import run_app;"
        "sys.exit(run_app(app, ['serve']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 3
    assert "pip install 'mmllm[serve]'" in done.stderr
