"""Gates as TOML files: read, checked against the table of metrics; an unknown word lists the known ones."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from benchmarks.gate import OPERATORS, SCHEMA_VERSION, Gate, GateCheck, Value
from benchmarks.gate_metrics import METRICS, OPTIONS
from mobile_multimodal.bundle import packaged_models
from mobile_multimodal.errors import UsageError

__all__ = ["CHECK_KEYS", "FILE_KEYS", "default_gate", "default_gate_text", "load_gate", "parse_gate"]

DEFAULT = "default.toml"
BUNDLE_KEYS = ("float_bundle", "torch_bundle")
FILE_KEYS = ("schema_version", "name", *BUNDLE_KEYS, "check")
CHECK_KEYS = ("metric", "op", "limit", "min_cores", "only_with")
KINDS = {bool: "true or false", str: "a word", float: "a number"}


def default_gate_text() -> str:
    """The packaged gates file, with its comments."""
    return (resources.files("benchmarks") / "gates" / DEFAULT).read_text(encoding="utf-8")


def default_gate() -> Gate:
    """The packaged gate."""
    return parse_gate(default_gate_text(), DEFAULT)


def load_gate(path: Path) -> Gate:
    """Read a gates file; the bundles that it names are packaged or lie relative to it.

    Raises:
        UsageError: no such file, no TOML, or a key, metric, operator or limit that is none; the message
            lists the valid ones.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise UsageError(
            f"{path} cannot be read: {exc.strerror}", remedy=f"mmllm quality-gate --init {path}"
        ) from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path} is not UTF-8: {exc}") from exc
    return parse_gate(text, str(path), folder=path.parent)


def parse_gate(text: str, where: str, *, folder: Path = Path()) -> Gate:
    """A gate from the text of a gates file; ``where`` names it in errors, ``folder`` is where it lies.

    Raises:
        UsageError: as :func:`load_gate`.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(f"{where} is not TOML: {exc}") from exc
    _only_known(document, FILE_KEYS, where)
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise UsageError(
            f"{where}: schema_version is {'missing' if version is None else repr(version)}",
            remedy=f"schema_version = {SCHEMA_VERSION}",
        )
    name = document.get("name", Path(where).stem)
    if not isinstance(name, str) or not name:
        raise UsageError(f"{where}: name {name!r} is no name", remedy='name = "my gate"')
    rows = document.get("check", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{where}: check is no list of tables", remedy="begin each check with [[check]]")
    checks = tuple(_check(row, f"{where}: check {number}") for number, row in enumerate(rows, start=1))
    bundles = {
        key: _bundle(document[key], f"{where}: {key}", folder) for key in BUNDLE_KEYS if key in document
    }
    try:
        return Gate(name, checks, **bundles)
    except ValueError as exc:
        raise UsageError(f"{where}: {exc}") from exc


def _check(row: Mapping[str, Any], where: str) -> GateCheck:
    _only_known(row, CHECK_KEYS, where)
    if missing := [key for key in ("metric", "op", "limit") if key not in row]:
        raise UsageError(f"{where} has no {' and no '.join(missing)}", remedy="every check needs the three")
    metric, op = row["metric"], row["op"]
    if not isinstance(metric, str) or metric not in METRICS:
        raise UsageError(f"{where}: unknown metric {metric!r}", remedy=f"one of {', '.join(METRICS)}")
    where = f"{where} ({metric})"
    if not isinstance(op, str) or op not in OPERATORS:
        raise UsageError(f"{where}: unknown operator {op!r}", remedy=f"one of {' '.join(OPERATORS)}")
    only_with = row.get("only_with")
    if only_with is not None and (not isinstance(only_with, str) or only_with not in OPTIONS):
        raise UsageError(f"{where}: unknown only_with {only_with!r}", remedy=f"one of {', '.join(OPTIONS)}")
    min_cores = row.get("min_cores")
    if min_cores is not None and type(min_cores) is not int:
        raise UsageError(f"{where}: min_cores {min_cores!r} is no whole number", remedy="min_cores = 4")
    try:
        return GateCheck(metric, op, _limit(row["limit"], metric, op, where), min_cores, only_with)
    except ValueError as exc:
        raise UsageError(f"{where}: {exc}") from exc


def _limit(limit: Any, metric: str, op: str, where: str) -> Value:
    kind = METRICS[metric].kind
    if kind is float and type(limit) in (int, float):
        if METRICS[metric].is_percentile and op not in ("<", "<="):
            raise UsageError(f"{where}: a percentile cannot be held {op} a limit", remedy="one of < <=")
        return float(limit)
    if type(limit) is not kind:
        raise UsageError(f"{where}: limit {limit!r} is not {KINDS[kind]}", remedy=_example(metric))
    return limit if isinstance(limit, bool) else str(limit)


def _example(metric: str) -> str:
    unit = METRICS[metric].unit
    return f"its unit is {unit}"


def _bundle(value: Any, where: str, folder: Path) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{where} is {value!r}", remedy="a packaged model's name, or a bundle's directory")
    return value if value in packaged_models() else str(folder / value)


def _only_known(row: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    if unknown := [key for key in row if key not in known]:
        raise UsageError(f"{where}: unknown key {unknown[0]!r}", remedy=f"one of {', '.join(known)}")
