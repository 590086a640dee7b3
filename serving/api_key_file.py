"""The file of API keys: a JSON document of records, checked when read, replaced whole when written."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from mobile_multimodal.errors import DataError, MissingExtraError

try:
    from argon2 import extract_parameters
    from argon2.exceptions import InvalidHashError
except ImportError as exc:
    raise MissingExtraError("argon2-cffi", "serve") from exc

__all__ = ["KEY_ID", "ROLES", "KeyRecord", "Role", "file_version", "read_keys", "write_keys"]

Role = Literal["reader", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
KEY_ID = re.compile(r"[0-9a-f]{8}")

_FORMAT = 1
_CREATE = "mmllm keys create NAME --file {}"
_REPAIR = "restore it from a backup, or move it away and create new keys"


@dataclass(frozen=True)
class KeyRecord:
    """What is known of one key: never the key itself. Times are UTC, ISO 8601, in seconds."""

    id: str
    name: str
    role: Role
    hash: str = field(repr=False)
    created: str
    revoked: str | None

    def allows(self, role: Role) -> bool:
        """Whether this key may do what ``role`` may: an admin may do all that a reader may."""
        return self.revoked is None and self.role in (role, "admin")


def file_version(path: Path) -> tuple[int, int, int]:
    """What changes whenever the file does: its inode, its time in nanoseconds and its bytes.

    Raises:
        DataError: there is no such file, or it may not be looked at.
    """
    try:
        status = path.stat()
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    return status.st_ino, status.st_mtime_ns, status.st_size


def read_keys(path: Path) -> tuple[KeyRecord, ...]:
    """Every record of the file, in its order.

    Raises:
        DataError: the file cannot be read, is not JSON, or has a field too many, too few or of a wrong kind.
    """
    try:
        return _records(json.loads(path.read_bytes()))
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    except _SchemaError as exc:
        raise DataError(f"{path}: {exc}", remedy=_REPAIR) from exc
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{path} is not JSON", remedy=_REPAIR) from exc


def write_keys(path: Path, records: Sequence[KeyRecord]) -> None:
    """Replace the file in one step; it may be read by its owner alone, who stays the same.

    Raises:
        DataError: the disk is full or the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    document = {"format": _FORMAT, "keys": [asdict(record) for record in records]}
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fchmod(file.fileno(), 0o600)
            if target.exists() and (owner := target.stat()).st_uid != os.geteuid():
                # Root may write the file of a service that runs as somebody else and must still read it.
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as exc:
        raise DataError(
            f"{path} cannot be written: {exc.strerror}", remedy="check the disk and the permissions"
        ) from exc
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


class _SchemaError(Exception):
    """What is wrong with a document of keys."""


def _records(document: Any) -> tuple[KeyRecord, ...]:
    if not isinstance(document, dict) or document.keys() != {"format", "keys"}:
        raise _SchemaError("it is not an object of format and keys alone")
    if document["format"] != _FORMAT:
        raise _SchemaError(f"format is {document['format']!r}, not {_FORMAT}")
    if not isinstance(document["keys"], list):
        raise _SchemaError("keys is not a list")
    records = tuple(_record(row, f"keys[{number}]") for number, row in enumerate(document["keys"]))
    if len({record.id for record in records}) < len(records):
        raise _SchemaError("two keys have the same id")
    return records


def _record(row: Any, where: str) -> KeyRecord:
    if not isinstance(row, dict):
        raise _SchemaError(f"{where} is not an object")
    if odd := sorted(row.keys() ^ {item.name for item in fields(KeyRecord)}):
        raise _SchemaError(f"{where}: {odd[0]!r} is {'unknown' if odd[0] in row else 'missing'}")
    for name, value in row.items():
        if not isinstance(value, str) and not (name == "revoked" and value is None):
            raise _SchemaError(f"{where}.{name} is not a text")
    if not KEY_ID.fullmatch(row["id"]):
        raise _SchemaError(f"{where}.id is not 8 hexadecimal digits")
    if row["role"] not in ROLES:
        raise _SchemaError(f"{where}.role is {row['role']!r}, none of {', '.join(ROLES)}")
    for name in ("created", "revoked"):
        if row[name] is not None and not _is_utc(row[name]):
            raise _SchemaError(f"{where}.{name} is not a time in UTC")
    if not _is_argon2id(row["hash"]):
        raise _SchemaError(f"{where}.hash is not one of argon2id")
    return KeyRecord(**row)


def _is_utc(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).utcoffset() == timedelta(0)
    except ValueError:
        return False


def _is_argon2id(text: str) -> bool:
    try:
        return extract_parameters(text).type.name == "ID"
    except InvalidHashError:
        return False


def _unreadable(path: Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: there is no such file of API keys", remedy=_CREATE.format(path))
    return DataError(f"{path} cannot be read: {error.strerror}", remedy="check its kind and its permissions")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
