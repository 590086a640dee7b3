"""``mmllm keys`` through a real process: a key is shown once, listed without itself, and revoked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mmllm_cli.conftest import CommandLine, only_one_line

pytest.importorskip("argon2", reason="needs the serve extra")


def test_a_key_from_its_creation_to_its_end(mmllm: CommandLine, tmp_path: Path) -> None:
    from serving.api_keys import KeyStore

    file = tmp_path / "keys.json"
    created = mmllm("keys", "create", "bob", "--file", file)
    assert created.code == 0, created.err
    key = only_one_line(created.out.splitlines())
    assert key not in created.err
    store = KeyStore(file)
    record = store.verify(key)
    assert record is not None
    assert (record.name, record.role) == ("bob", "reader")
    assert f"keep this key of bob (reader): {file} holds only its hash" in only_one_line(created.error_lines)

    listed = mmllm("keys", "list", "--file", file, "--json")
    [row] = listed.rows
    assert row == {
        "keys": [
            {"id": record.id, "name": "bob", "role": "reader", "created": record.created, "revoked": None}
        ]
    }
    shown = mmllm("keys", "list", environment={"API_KEYS_FILE": str(file)})
    assert [line.split() for line in shown.out.splitlines()][1] == [
        *(record.id, "reader", record.created, "in", "use", "bob")
    ]
    revoked = mmllm("keys", "revoke", record.id, "--file", file)
    assert (revoked.code, revoked.out) == (0, f"revoked {record.id} (bob)\n")
    assert store.verify(key) is None


def test_an_admins_key_as_json(mmllm: CommandLine, tmp_path: Path) -> None:
    from serving.api_keys import KeyStore

    file = tmp_path / "keys.json"
    done = mmllm("keys", "create", "ann", "--role", "admin", "--file", file, "--json")
    [row] = done.rows
    record = KeyStore(file).verify(row["key"])
    assert record is not None
    assert record.allows("admin")
    assert (row["id"], row["role"], done.err) == (record.id, "admin", "")


def test_what_cannot_be_is_said_in_one_line(mmllm: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    said = {
        ("list",): (2, "no file of API keys is named (give --file FILE.json, or set API_KEYS_FILE)"),
        ("create", "bob", "--role", "root", "--file", file): (2, "no role 'root' (one of reader, admin)"),
        ("list", "--file", file): (3, f"{file}: there is no such file of API keys"),
        ("revoke", "0a0a0a0a", "--file", file): (2, "there is no key with the id 0a0a0a0a (one of none)"),
    }
    for arguments, (code, words) in said.items():
        done = mmllm("keys", *arguments, environment={"API_KEYS_FILE": ""})
        assert (done.code, done.out) == (code, ""), arguments
        assert words in only_one_line(done.error_lines)
