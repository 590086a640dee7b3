"""Backups of a real Redis, of weights and of keys: what is lost comes back."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deployment.deployment_files import DEPLOYMENT, free_port, tool

BACKUP = DEPLOYMENT / "backup" / "backup.sh"
RESTORE = DEPLOYMENT / "backup" / "restore.sh"
PASSWORD = "only-for_tests1"
START_S = 20.0


def shell(script: Path, *arguments: str | Path, **variables: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **{name: str(value) for name, value in variables.items()}}
    return subprocess.run(
        ["sh", str(script), *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=60
    )


def ask(port: int, *command: str) -> str:
    done = subprocess.run(
        [tool("redis-cli"), "-p", str(port), *command],
        env={**os.environ, "REDISCLI_AUTH": PASSWORD},
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@contextmanager
def redis(folder: Path) -> Iterator[tuple[int, int]]:
    """Redis with the deployment's configuration and start script: its port and process id."""
    tool("redis-server")
    port = free_port()
    text = (DEPLOYMENT / "redis/redis.conf").read_text("utf-8")
    changes = {
        "port 6379": f"port {port}",
        "bind * -::*": "bind 127.0.0.1",
        "dir /data": f"dir {folder}",
    }
    for old, new in changes.items():
        assert f"{old}\n" in text
        text = text.replace(f"{old}\n", f"{new}\n")
    configuration = folder.parent / f"{folder.name}.conf"
    configuration.write_text(text, "utf-8")
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen(
        ["sh", str(DEPLOYMENT / "redis/start.sh")],
        env={**os.environ, "REDIS_CONF": str(configuration), "REDIS_PASSWORD": PASSWORD},
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_S
        while ask(port, "ping") != "PONG":
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def things(tmp_path: Path) -> Path:
    """A folder with weights and a file of keys."""
    (tmp_path / "models/own").mkdir(parents=True)
    (tmp_path / "models/own/model.onnx").write_bytes(bytes(range(256)))
    (tmp_path / "api_keys.json").write_text('{"format": 1, "keys": []}\n')
    return tmp_path


def backed_up(things: Path, **variables: str | Path) -> Path:
    chosen = {
        "BACKUP_ROOT": things / "backups",
        "WEIGHTS_DIR": things / "models",
        "KEYS_FILE": things / "api_keys.json",
        **variables,
    }
    done = shell(BACKUP, **chosen)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def test_redis_comes_back_with_its_keys_and_their_times(things: Path) -> None:
    data = things / "data"
    with redis(data) as (port, _):
        assert ask(port, "set", "known", "a caption", "ex", "5000") == "OK"
        for number in range(200):
            ask(port, "set", f"k{number}", "x" * number)
        saved = backed_up(things, REDIS_HOST="127.0.0.1", REDIS_PORT=str(port), REDISCLI_AUTH=PASSWORD)
        ask(port, "flushall")
        ask(port, "set", "later", "1")
    done = shell(RESTORE, "redis", saved, data)
    assert done.returncode == 0, done.stderr
    assert "201 keys" in done.stderr
    with redis(data) as (port, _):
        assert ask(port, "dbsize") == "201"
        assert ask(port, "get", "known") == "a caption"
        assert 0 < int(ask(port, "ttl", "known")) <= 5000
        assert ask(port, "get", "k199") == "x" * 199
        assert ask(port, "config", "get", "appendonly").split() == ["appendonly", "yes"]
    [replaced] = data.glob(".replaced-*")
    assert (replaced / "appendonlydir").is_dir()


def test_redis_keeps_what_it_has_over_a_restart(tmp_path: Path) -> None:
    with redis(tmp_path / "data") as (port, _):
        ask(port, "set", "kept", "1")
    with redis(tmp_path / "data") as (port, _):
        assert ask(port, "get", "kept") == "1"


def test_the_password_is_asked_for_and_is_in_no_list_of_processes(tmp_path: Path) -> None:
    with redis(tmp_path / "data") as (port, process):
        naked = subprocess.run([tool("redis-cli"), "-p", str(port), "ping"], capture_output=True, text=True)
        assert "NOAUTH" in naked.stdout
        command = Path(f"/proc/{process}/cmdline").read_bytes()
        assert command.startswith(b"redis-server")  # process 1 of its container: it gets the signals
        assert PASSWORD.encode() not in command


@pytest.mark.parametrize("password", ["", "with space", 'quote"', "at@sign", "line\nbreak"])
def test_a_password_that_an_address_cannot_carry_is_refused(password: str) -> None:
    done = shell(DEPLOYMENT / "redis/start.sh", REDIS_PASSWORD=password)
    assert done.returncode == 2
    assert "REDIS_PASSWORD" in done.stderr


def test_weights_and_keys_come_back(things: Path) -> None:
    saved = backed_up(things)
    models, keys = things / "models", things / "api_keys.json"
    (models / "own/model.onnx").write_bytes(b"broken")
    (models / "new").mkdir()
    keys.write_text("broken")
    assert shell(RESTORE, "weights", saved, models).returncode == 0
    assert shell(RESTORE, "keys", saved, keys).returncode == 0
    assert (models / "own/model.onnx").read_bytes() == bytes(range(256))
    assert not (models / "new").exists()
    assert keys.read_text() == '{"format": 1, "keys": []}\n'
    [replaced] = models.glob(".replaced-*")
    assert (replaced / "own/model.onnx").read_bytes() == b"broken"
    assert keys.stat().st_mode & 0o777 == 0o600
    # What was replaced is not saved again.
    again = backed_up(things, BACKUP_ROOT=things / "again")
    listed = subprocess.run(["tar", "-tzf", again / "weights.tar.gz"], capture_output=True, text=True).stdout
    assert "model.onnx" in listed
    assert ".replaced" not in listed


def test_a_backup_is_for_its_owner_alone(things: Path) -> None:
    saved = backed_up(things)
    modes = {path.stat().st_mode & 0o077 for path in [saved, *saved.iterdir()]}
    assert modes == {0}
    assert {path.name for path in saved.iterdir()} == {"SHA256SUMS", "api_keys.json", "weights.tar.gz"}


def test_a_damaged_backup_restores_nothing(things: Path) -> None:
    saved = backed_up(things)
    assert shell(RESTORE, "verify", saved).returncode == 0
    (saved / "api_keys.json").write_text('{"format": 1, "keys": [1]}\n')
    for arguments in (
        ("verify", saved),
        ("keys", saved, things / "api_keys.json"),
        ("weights", saved, things / "models"),
    ):
        done = shell(RESTORE, *arguments)
        assert done.returncode != 0
        assert "api_keys.json: FAILED" in done.stderr
    assert (things / "api_keys.json").read_text() == '{"format": 1, "keys": []}\n'
    assert not list((things / "models").glob(".re*"))


def test_a_dump_that_redis_cannot_read_leaves_the_data_alone(things: Path) -> None:
    tool("redis-server")
    saved = backed_up(things)
    (saved / "redis.rdb").write_bytes(b"no dump")
    sums = subprocess.run(
        ["sha256sum", *(p.name for p in saved.iterdir() if p.name != "SHA256SUMS")],
        cwd=saved,
        capture_output=True,
    )
    (saved / "SHA256SUMS").write_bytes(sums.stdout)
    data = things / "data"
    data.mkdir()
    (data / "mine").touch()
    assert shell(RESTORE, "redis", saved, data).returncode == 1
    assert [path.name for path in data.iterdir()] == ["mine"]


def test_old_backups_go_and_other_files_stay(things: Path) -> None:
    root = things / "backups"
    for name in ("20250101T000000Z", "20250102T000000Z", "20250103T000000Z"):
        (root / name).mkdir(parents=True)
    (root / "notes.txt").touch()
    saved = backed_up(things, BACKUP_KEEP="2")
    assert {path.name for path in root.iterdir()} == {"20250103T000000Z", saved.name, "notes.txt"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"REDIS_HOST": "127.0.0.1", "REDIS_PORT": "1"}, "Connection refused"),
        ({"KEYS_FILE": "/nowhere/api_keys.json"}, "nowhere"),
        ({"WEIGHTS_DIR": "/nowhere"}, "nowhere"),
        ({"BACKUP_KEEP": "0"}, "BACKUP_KEEP"),
        ({"BACKUP_KEEP": "many"}, "BACKUP_KEEP"),
        ({}, "nothing to save"),
    ],
)
def test_a_backup_that_fails_leaves_nothing_and_removes_nothing(
    variables: dict[str, str], said: str, tmp_path: Path
) -> None:
    if shutil.which("redis-cli") is None and "REDIS_HOST" in variables:
        tool("redis-cli")
    (tmp_path / "20250101T000000Z").mkdir()
    done = shell(BACKUP, BACKUP_ROOT=tmp_path, **{"BACKUP_KEEP": "1", **variables})
    assert done.returncode != 0
    assert said in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["20250101T000000Z"]
