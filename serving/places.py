"""How many requests all worker processes of a service work on, in a file that they share."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

__all__ = ["PLACES_FILE", "Places"]

PLACES_FILE = "MMLLM_PLACES_FILE"
"""The variable that names the file to the workers; the process that starts them sets it."""
ROWS = 256
ROW_BYTES = 8
"""A process and how many places it holds, 4 bytes each."""


class Places:
    """``most`` places, of which each request takes one; without a file they are this process's own.

    A worker writes its own row of the file alone, so that nobody waits for anybody. What a worker held that
    was killed is free again when the next one has started.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, most: int, file: Path | None = None) -> None:
        self.most = most
        self._rows = memoryview(bytearray(ROWS * ROW_BYTES)).cast("i")
        self._own = 1
        if file is None:
            return
        import fcntl  # not on Windows, where there is no file

        with file.open("a+b") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)  # one worker after the other looks for a row
            opened.truncate(ROWS * ROW_BYTES)
            self._rows = memoryview(mmap.mmap(opened.fileno(), ROWS * ROW_BYTES)).cast("i")
            self._own = self._claim()
            fcntl.flock(opened, fcntl.LOCK_UN)  # the mapping keeps the file open, and with it a lock

    def _claim(self) -> int:
        """A row of this process; rows of processes that have ended are cleared."""
        for place in range(0, len(self._rows), 2):
            if not _is_another_worker(self._rows[place]):
                self._rows[place] = self._rows[place + 1] = 0
        free = next(place for place in range(0, len(self._rows), 2) if not self._rows[place])
        self._rows[free] = os.getpid()
        return free + 1

    @property
    def taken(self) -> int:
        """Places that are held, over all processes."""
        return sum(self._rows[1::2])

    def take(self) -> bool:
        """Hold one more place, if there is one."""
        self._rows[self._own] += 1  # first, so that two at once never both get the last
        if self.taken <= self.most:
            return True
        self.leave()
        return False

    def leave(self) -> None:
        """Give a place back."""
        self._rows[self._own] -= 1


def _is_another_worker(pid: int) -> bool:
    """Whether a process of this user lives, and is not this one, under the number of one before."""
    if pid in (0, os.getpid()):
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
