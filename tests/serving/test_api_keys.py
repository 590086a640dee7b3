"""Keys are created, checked, remembered and revoked; the file is trusted only when it is whole."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import argon2
import pytest

from mobile_multimodal.errors import DataError, UsageError
from serving.api_keys import KeyStore


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.json")


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that argon2 really checks, noted on the way."""
    hashes: list[str] = []
    verify = argon2.PasswordHasher.verify

    def noting(hasher: argon2.PasswordHasher, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002
        hashes.append(str(hash))
        return verify(hasher, hash, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", noting)
    return hashes


def other_secret(key: str) -> str:
    """The same id with a secret that differs in its first character."""
    start = len("mmk_01234567_")
    return key[:start] + ("A" if key[start] != "A" else "B") + key[start + 1 :]


def other_id(key: str) -> str:
    return key[:4] + ("0" if key[4] != "0" else "1") + key[5:]


def test_a_key_is_accepted_and_the_file_holds_only_its_hash(store: KeyStore) -> None:
    record, key = store.create("bob", "reader")
    assert key.startswith(f"mmk_{record.id}_")
    assert store.verify(key) == record
    text = store.path.read_text()
    assert key not in text
    assert key.rpartition("_")[2] not in text
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert [path.name for path in store.path.parent.iterdir()] == ["keys.json"]


@pytest.mark.parametrize(
    "presented", ["", "mmk", "mmk__", "bob", "mmk_00000000_short", "\udcff", "mmk_" * 9999]
)
def test_what_is_no_key_is_refused_without_a_check(
    store: KeyStore, checked: list[str], presented: str
) -> None:
    store.create("bob", "reader")
    assert store.verify(presented) is None
    assert asyncio.run(store.check(presented)) is None
    assert checked == []


@pytest.mark.parametrize(
    "change", [other_secret, other_id, str.upper, lambda key: key + "A", lambda key: key[:-1]]
)
def test_a_changed_key_is_refused(store: KeyStore, change: Callable[[str], str]) -> None:
    _, key = store.create("bob", "admin")
    assert store.verify(change(key)) is None
    assert store.verify(key) is not None


def test_a_known_and_an_unknown_id_cost_the_same_check(store: KeyStore, checked: list[str]) -> None:
    record, key = store.create("bob", "reader")
    assert store.verify(other_secret(key)) is None
    assert store.verify(other_id(key)) is None
    known, unknown = checked
    assert known == record.hash
    assert unknown != record.hash
    assert len(unknown) == len(known)
    assert argon2.extract_parameters(unknown) == argon2.extract_parameters(known)


def test_answers_are_remembered_until_the_file_changes(store: KeyStore, checked: list[str]) -> None:
    _, key = store.create("bob", "reader")
    for _ in range(3):
        assert store.verify(key) is not None
        assert store.verify(other_secret(key)) is None
    assert len(checked) == 2
    store.create("ann", "reader")
    assert store.verify(key) is not None
    assert len(checked) == 3


def test_many_at_once_cost_one_check(store: KeyStore, checked: list[str]) -> None:
    _, key = store.create("bob", "reader")

    async def ask() -> list[bool]:
        return [answer is not None for answer in await asyncio.gather(*(store.check(key) for _ in range(50)))]

    assert all(asyncio.run(ask()))
    assert len(checked) == 1


def test_a_revoked_key_stops_at_once_in_a_store_that_runs(store: KeyStore) -> None:
    record, key = store.create("bob", "reader")
    _, other = store.create("ann", "reader")
    running = KeyStore(store.path)
    assert running.verify(key) is not None
    revoked = store.revoke(record.id)
    assert revoked.revoked is not None
    assert running.verify(key) is None
    assert asyncio.run(running.check(key)) is None
    assert running.verify(other) is not None
    assert store.revoke(record.id) == revoked
    assert [row.revoked is None for row in store.records()] == [False, True]
    assert not revoked.allows("reader")


def test_roles(store: KeyStore) -> None:
    reader, _ = store.create("bob", "reader")
    admin, _ = store.create("ann", "admin")
    assert (reader.allows("reader"), reader.allows("admin")) == (True, False)
    assert (admin.allows("reader"), admin.allows("admin")) == (True, True)
    with pytest.raises(UsageError, match="no role 'root'"):
        store.create("eve", "root")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 65, "\x1b[31m"])
def test_names_that_would_break_a_list_are_refused(store: KeyStore, name: str) -> None:
    with pytest.raises(UsageError, match="is no name for a key"):
        store.create(name, "reader")
    assert not store.path.exists()


def test_no_error_and_no_repr_tells_a_key_or_a_hash(store: KeyStore) -> None:
    record, key = store.create("bob", "reader")
    secret = key.rpartition("_")[2]
    assert "argon2" not in repr(record)
    for slip in (key + "x", key[1:], other_id(key)):
        with pytest.raises(UsageError) as caught:
            store.revoke(slip)
        assert secret[:8] not in str(caught.value)
    assert store.revoke(key).id == record.id


def test_writers_wait_for_each_other(store: KeyStore) -> None:
    threads = [
        threading.Thread(target=KeyStore(store.path).create, args=(f"user {number}", "reader"))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(record.name for record in store.records()) == [f"user {number}" for number in range(8)]


def test_a_link_to_the_file_stays_a_link(store: KeyStore, tmp_path: Path) -> None:
    record, key = store.create("bob", "reader")
    link = tmp_path / "link.json"
    link.symlink_to(store.path)
    linked = KeyStore(link)
    assert linked.verify(key) is not None
    linked.revoke(record.id)
    assert link.is_symlink()
    assert store.verify(key) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_file_stays_with_its_owner(store: KeyStore) -> None:
    store.create("bob", "reader")
    os.chown(store.path, 12345, 12346)
    store.create("ann", "reader")
    status = store.path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 12346, 0o600)


def test_a_missing_file_and_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file of API keys"):
        KeyStore(tmp_path / "keys.json").records()
    with pytest.raises(UsageError, match="cannot be used: No such file or directory"):
        KeyStore(tmp_path / "none" / "keys.json").create("bob", "reader")


def test_a_running_store_whose_file_goes_or_breaks_accepts_nobody(store: KeyStore) -> None:
    _, key = store.create("bob", "reader")
    assert store.verify(key) is not None
    good = store.path.read_bytes()
    store.path.write_bytes(good[:-10])
    with pytest.raises(DataError, match="is not JSON"):
        store.verify(key)
    store.path.unlink()
    with pytest.raises(DataError, match="no such file"):
        store.verify(key)
    store.path.write_bytes(good)
    assert store.verify(key) is not None


def with_field(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: {**document, "keys": [{**document["keys"][0], name: value}]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda document: [document], "not an object of format and keys alone"),
        (lambda document: {**document, "more": 1}, "not an object of format and keys alone"),
        (lambda document: {**document, "format": 2}, "format is 2, not 1"),
        (lambda document: {**document, "keys": {}}, "keys is not a list"),
        (lambda document: {**document, "keys": document["keys"] * 2}, "two keys have the same id"),
        (lambda document: {**document, "keys": [1]}, "keys[0] is not an object"),
        (with_field("admin", True), "keys[0]: 'admin' is unknown"),
        (lambda document: {**document, "keys": [{"id": "00000000"}]}, "keys[0]: 'created' is missing"),
        (with_field("id", 7), "keys[0].id is not a text"),
        (with_field("id", "../../etc"), "keys[0].id is not 8 hexadecimal digits"),
        (with_field("role", "root"), "keys[0].role is 'root', none of reader, admin"),
        (with_field("created", None), "keys[0].created is not a text"),
        (with_field("created", "today"), "keys[0].created is not a time in UTC"),
        (with_field("revoked", "2026-01-01T00:00:00"), "keys[0].revoked is not a time in UTC"),
        (with_field("hash", "plain"), "keys[0].hash is not one of argon2id"),
        (with_field("hash", "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA"), "keys[0].hash is not one of"),
    ],
)
def test_a_file_that_is_not_as_written_is_named_and_refused(
    store: KeyStore, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    store.create("bob", "reader")
    store.path.write_text(json.dumps(change(json.loads(store.path.read_text()))))
    with pytest.raises(DataError) as caught:
        store.records()
    assert says in caught.value.message
    assert str(store.path) in caught.value.message
    assert caught.value.remedy
    before = store.path.read_bytes()
    with pytest.raises(DataError):
        store.create("ann", "reader")
    assert store.path.read_bytes() == before
