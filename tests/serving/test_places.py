"""Places that several processes share: never more than there are, and none is lost with a process."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving.places import Places
from tests.serving.live_service import ROOT, LiveService
from tests.serving.test_live import PICTURE, wait_for

HOLDER = """
import sys
from pathlib import Path
from serving.places import Places
places = Places(int(sys.argv[2]), Path(sys.argv[1]))
print(sum(places.take() for _ in range(int(sys.argv[3]))), flush=True)
sys.stdin.read()
"""


def holder(file: Path, most: int, wanted: int) -> tuple[subprocess.Popen[str], int]:
    """A process that takes as many places as it gets, and how many it got."""
    command = [sys.executable, "-c", HOLDER, str(file), str(most), str(wanted)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_one_process_has_its_places_to_itself() -> None:
    places = Places(2)
    assert [places.take() for _ in range(3)] == [True, True, False]
    assert places.taken == 2
    places.leave()
    assert places.take()


def test_processes_share_them_and_those_of_a_killed_one_are_free_for_the_next(tmp_path: Path) -> None:
    file = tmp_path / "places"
    mine = Places(5, file)
    assert mine.take()
    other, got = holder(file, 5, 10)
    try:
        assert got == 4
        assert not mine.take()
        assert mine.taken == 5
        other.kill()
        other.wait()
        assert mine.taken == 5  # nobody has looked
        third, got = holder(file, 5, 3)
        third.kill()
        third.wait()
        assert got == 3
        assert mine.taken == 4
    finally:
        other.kill()
        other.wait()


def test_nobody_is_refused_while_there_are_places_whichever_worker_is_asked() -> None:
    """Eight at once: two workers of four places each would refuse whenever five came to one of them."""
    with (
        LiveService("--workers", "2", MAX_CONCURRENT_REQUESTS="8") as service,
        ThreadPoolExecutor(8) as clients,
    ):
        pictures = [PICTURE + number.to_bytes(4, "little") for number in range(400)]
        assert {status for status, _ in clients.map(service.caption, pictures)} == {200}
        wait_for(lambda: "mmllm_in_flight_requests 0.0" in service.get("/metrics")[1], "the end of all")
