"""API keys: who may use the service. What a client presents is shown once and stored nowhere."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from mobile_multimodal.errors import MissingExtraError, UsageError
from serving.api_key_file import KEY_ID, ROLES, KeyRecord, Role, file_version, read_keys, write_keys

try:
    from argon2 import PasswordHasher
    from argon2.exceptions import VerificationError
except ImportError as exc:
    raise MissingExtraError("argon2-cffi", "serve") from exc

__all__ = ["ROLES", "KeyRecord", "KeyStore", "Role"]

_KEY = re.compile(rf"mmk_({KEY_ID.pattern})_[A-Za-z0-9_-]{{43}}")
_MOST_REFUSED = 1024
# OWASP's least argon2id. A secret of 256 random bits cannot be guessed, however quick the check.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)


class KeyStore:
    """The keys of one file. It is read again whenever it changes, so a revoked key stops at once.

    Safe to use from several threads; writers of several processes wait for each other.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = _Snapshot(None, ())
        self._one_at_a_time = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="api-keys")

    def create(self, name: str, role: Role) -> tuple[KeyRecord, str]:
        """Add a key and return its record and its text, which is stored nowhere.

        Raises:
            UsageError: a name that is empty, long or not printable; an unknown role; no such directory.
            DataError: the file cannot be read, trusted or written.
        """
        if not (name.strip() and name.isprintable() and len(name) <= 64):
            raise UsageError(
                f"{name[:64]!r} is no name for a key", remedy="give 1 to 64 printable characters"
            )
        if role not in ROLES:
            raise UsageError(f"there is no role {role!r}", remedy=f"one of {', '.join(ROLES)}")
        with self._writing() as records:
            key_id = _new_id(records)
            key = f"mmk_{key_id}_{secrets.token_urlsafe(32)}"
            record = KeyRecord(key_id, name, role, _HASHER.hash(key), _now(), None)
            write_keys(self.path, [*records, record])
        return record, key

    def records(self) -> tuple[KeyRecord, ...]:
        """Every key that there ever was, oldest first.

        Raises:
            DataError: the file is missing, cannot be read or is not one of keys.
        """
        return self._snapshot().records

    def revoke(self, key_id: str) -> KeyRecord:
        """Revoke a key for good, by its id or its text; one that is revoked already stays as it is.

        Raises:
            UsageError: no key has this id.
            DataError: the file cannot be read, trusted or written.
        """
        if whole := _KEY.fullmatch(key_id):
            key_id = whole[1]
        with self._writing() as records:
            ids = [record.id for record in records]
            if key_id not in ids:
                # What is no id may be a key with a slip in it, and is not repeated.
                shown = f"with the id {key_id}" if KEY_ID.fullmatch(key_id) else "with an id like this"
                raise UsageError(f"there is no key {shown}", remedy=f"one of {', '.join(ids) or 'none'}")
            old = records[ids.index(key_id)]
            new = replace(old, revoked=old.revoked or _now())
            write_keys(self.path, [new if record is old else record for record in records])
        return new

    def verify(self, presented: str) -> KeyRecord | None:
        """The record of a key as a client presents it; None where it is wrong, unknown or revoked.

        The first time, any text of a key's form costs one argon2 check (tens of milliseconds), whether
        its id exists or not; the answer is remembered until the file changes.

        Raises:
            DataError: the file is missing, cannot be read or is not one of keys.
        """
        snapshot, form = self._snapshot(), _KEY.fullmatch(presented)
        if form is None:
            return None
        digest = _digest(presented)
        if not snapshot.knows(digest):
            with self._one_at_a_time:
                if not snapshot.knows(digest):
                    snapshot.remember(digest, _check(snapshot.records, form[1], presented))
        return snapshot.answer(digest)

    async def check(self, presented: str) -> KeyRecord | None:
        """:meth:`verify` for an event loop: what is not remembered is computed in a thread, one at a time."""
        if _KEY.fullmatch(presented) is None or self._snapshot().knows(_digest(presented)):
            return self.verify(presented)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.verify, presented)

    def _snapshot(self) -> _Snapshot:
        version = file_version(self.path)
        if version != self._seen.version:
            # The version is older than what is read: a file that changes in between is read once more.
            self._seen = _Snapshot(version, read_keys(self.path))
        return self._seen

    @contextmanager
    def _writing(self) -> Iterator[tuple[KeyRecord, ...]]:
        """The records as they are while no other process changes them: none where there is no file yet."""
        folder = Path(os.path.realpath(self.path)).parent
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as exc:
            message = f"the directory {folder} cannot be used: {exc.strerror}"
            raise UsageError(message, remedy=f"mkdir -p {folder}") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield read_keys(self.path) if os.path.lexists(self.path) else ()
        finally:
            os.close(lock)


class _Snapshot:
    """One version of the file, and the answers that it gave. Presented keys are kept as their SHA-256."""

    def __init__(self, version: tuple[int, int, int] | None, records: Sequence[KeyRecord]) -> None:
        self.version = version
        self.records = tuple(records)
        self._accepted: dict[bytes, KeyRecord] = {}
        self._refused: dict[bytes, None] = {}

    def knows(self, digest: bytes) -> bool:
        return digest in self._accepted or digest in self._refused

    def answer(self, digest: bytes) -> KeyRecord | None:
        return self._accepted.get(digest)

    def remember(self, digest: bytes, record: KeyRecord | None) -> None:
        """Keep an answer: as many accepted ones as there are keys, and a bounded number of refused ones."""
        if record is not None:
            self._accepted[digest] = record
            return
        if len(self._refused) >= _MOST_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._refused[digest] = None


def _check(records: Sequence[KeyRecord], key_id: str, presented: str) -> KeyRecord | None:
    record = next((record for record in records if record.id == key_id), None)
    try:
        _HASHER.verify(_nobodys_hash() if record is None else record.hash, presented)
    except VerificationError:
        return None
    return record if record is not None and record.revoked is None else None


def _nobodys_hash() -> str:
    """A hash that no key has and that takes as long to check as any: time must not tell which ids exist."""
    salt, digest = (base64.b64encode(os.urandom(size)).decode().rstrip("=") for size in (16, 32))
    cost = f"m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}"
    return f"$argon2id$v=19${cost}${salt}${digest}"


def _digest(presented: str) -> bytes:
    return hashlib.sha256(presented.encode()).digest()


def _new_id(records: Sequence[KeyRecord]) -> str:
    taken = {record.id for record in records}
    while (new := secrets.token_hex(4)) in taken:
        pass
    return new


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
